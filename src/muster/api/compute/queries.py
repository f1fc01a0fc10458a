"""Queries as Nova judges them: which parameters there are, and their numbers, truth values, times and patterns."""

import re
import warnings
from collections.abc import Collection, Iterable, Mapping

from muster.api.compute.bodies import unexpected
from muster.api.compute.fields import boolean
from muster.api.http.requests import Request
from muster.base.errors import Invalid
from muster.base.units import parse_iso
from muster.domain.server_listing import is_offered

_STRICT = (2, 75)
_PATTERN_LIMIT = 255


def asked(request: Request, *known: str) -> dict[str, str]:
    """The query by name; of a repeated name the last counts.

    Raises Invalid for text that no database holds and, from 2.75 on, for names other than `known`, if any are given.
    """
    found = dict(request.query)
    for name, value in found.items():
        if known and name not in known and request.version >= _STRICT:
            raise unexpected(name)
        if "\x00" in value:
            raise Invalid(f"Invalid input for query parameters {name}: NUL characters are not allowed.")
    return found


def number(query: Mapping[str, str], name: str) -> int | None:
    """A number of a query, not negative; None if it is not there. Raises Invalid."""
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        value = text[:80]
        raise Invalid(f"Invalid input for query parameters {name}. Value: {value}. '{value}' does not match '^[0-9]*$'")
    return int(text)


def truth(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A truth value of a query, in any of the words that OpenStack takes. Raises Invalid."""
    return boolean(query.get(name, default), name)


def moment(values: Mapping[str, str], name: str) -> float | None:
    """Unix seconds of an ISO 8601 time. Raises Invalid."""
    text = values.get(name)
    if text is None:
        return None
    try:
        return parse_iso(text.replace(" ", "+"))  # a '+' that was not escaped has become a blank
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"Invalid input for query parameters {name}. Value: {text[:64]}. It is no 'date-time'."
        ) from error


def moments(values: Mapping[str, str]) -> tuple[float | None, float | None]:
    """`changes-since` and `changes-before`. Raises Invalid, also if they are the wrong way round."""
    since, before = moment(values, "changes-since"), moment(values, "changes-before")
    if since is not None and before is not None and before < since:
        raise Invalid("The value of changes-since must be less than or equal to changes-before.")
    return since, before


def check_pattern(text: str, name: str) -> str:
    """The text, if it is a regular expression that is offered. Raises Invalid."""
    if len(text) <= _PATTERN_LIMIT:
        try:
            with warnings.catch_warnings():
                # [[:alpha:]] and the like: a later Python may read them otherwise.
                warnings.simplefilter("ignore", FutureWarning)
                re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise Invalid(f"Invalid input for query parameters {name}. Value: {text}. It is no 'regex'.") from error
    if not is_offered(text):
        raise Invalid(
            f"Invalid input for query parameters {name}. Value: {text[:_PATTERN_LIMIT]}. This cloud knows characters, "
            "classes, groups, alternatives, repetitions, ^, $, \\b and \\B; and not too many of them."
        )
    return text


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raises Invalid for a name that is not known."""
    for name in names:
        if name not in known:
            raise unexpected(name)
