"""Queries as Nova judges them, beside their pages: times, patterns, and which parameters there are."""

import re
from collections.abc import Collection, Iterable, Mapping

from muster.api.compute.bodies import unexpected
from muster.base.errors import Invalid
from muster.base.units import parse_iso

_PATTERN_LIMIT = 255


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
    """The text, if it is a regular expression. Raises Invalid."""
    if len(text) <= _PATTERN_LIMIT:
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise Invalid(f"Invalid input for query parameters {name}. Value: {text}. It is no 'regex'.") from error
    return text


def check_known(names: Iterable[str], known: Collection[str]) -> None:
    """Raises Invalid for a name that is not known."""
    for name in names:
        if name not in known:
            raise unexpected(name)
