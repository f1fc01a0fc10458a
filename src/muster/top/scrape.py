"""Reading the metrics of processes, as Prometheus does."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from muster.base.errors import Invalid

TIMEOUT_S = 5.0
_MOST_AT_ONCE = 32
_MOST_BYTES = 16 << 20
#: A metric's name and its labels in their order of names.
Key = tuple[str, tuple[tuple[str, str], ...]]

_opener = build_opener(ProxyHandler({}))  # a proxy for the world has no way to a process's loopback


class Scrape(Struct, frozen=True):
    """What one process said at a moment of our clock; `error` says why it said nothing."""

    target: str
    at_s: float
    values: Mapping[Key, float] = {}
    error: str | None = None


def target_url(text: str) -> str:
    """The URL of a target: `host:port`, or a URL whose path, if it has none, is /metrics. Raises Invalid."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number or too large a one
        is_one = False
    if not is_one:
        raise Invalid(f"{text} is not a target: give host:port or http://host:port/metrics")
    return url if parts.path not in ("", "/") else f"{url.rstrip('/')}/metrics"


def targets_of(file: Path) -> list[str]:
    """The targets that a file names in Prometheus's format (file_sd, JSON). Raises Invalid."""

    class Group(Struct):
        targets: list[str]

    try:
        groups = msgspec.json.decode(file.read_bytes(), type=list[Group])
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise Invalid(f"{file} is not a list of targets as Prometheus reads it: {error}") from error
    return [target for group in groups for target in group.targets]


def scrape(targets: Sequence[str]) -> list[Scrape]:
    """Ask all targets side by side, in the order given. One request each; none waits beyond `TIMEOUT_S` per read."""
    with ThreadPoolExecutor(min(len(targets), _MOST_AT_ONCE) or 1) as threads:
        return list(threads.map(_scrape_one, targets))


def parse(text: str) -> dict[Key, float]:
    """The values of Prometheus's text format. Raises ValueError for what is not in it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _scrape_one(target: str) -> Scrape:
    at_s = time.monotonic()
    try:
        with _opener.open(target_url(target), timeout=TIMEOUT_S) as answer:
            text = answer.read(_MOST_BYTES).decode()
        return Scrape(target, at_s, parse(text))
    except URLError as error:
        return Scrape(target, at_s, error=_reason(error.reason))
    except (OSError, HTTPException, ValueError, Invalid) as error:
        return Scrape(target, at_s, error=_reason(error))


def _reason(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def answering(scrapes: Iterable[Scrape]) -> list[Scrape]:
    """Those that said something."""
    return [one for one in scrapes if one.error is None]
