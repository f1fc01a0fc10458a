"""Regular expressions that take no longer than their text is long.

Users give them, and Python's own may go on for ever: `(a*)*b` on many an `a`. RE2 does not; what it cannot do so
(looking around, back references) is not offered.
"""

import re
from functools import lru_cache
from typing import Any

import re2

LENGTH = 255
# Bounds both what a pattern keeps and what it costs: the largest ones take about a millisecond for a text.
_MEMORY_BYTES = 64 * 1024

# An escaped character, a class, a count, the start of a group, or any other character. Of a class: what it has by name,
# then a range or a character, read as RE2 does and not in another way if that fails.
TOKENS = re.compile(
    r"\\."
    r"|\[\^?(?>\](?:-(?:\\.|[^\]\\]))?)?(?>\[:\^?\w+:\]|\\[dDwWsS]|(?:\\.|[^\]\\])(?:-(?:\\.|[^\]\\]))?)*+\]"
    r"|\{(?:\d+,?\d*|,\d*)\}"
    r"|\(\?."
    r"|.",
    re.DOTALL,
)
EDGES = frozenset({"\\b", "\\B"})
CLASSES = frozenset({"\\d", "\\D", "\\w", "\\W", "\\s", "\\S"})


class Pattern:
    """A regular expression that is searched for, whatever the case of letters."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def finds(self, text: str) -> bool:
        """Whether it is somewhere in the text."""
        return self._compiled.search(text) is not None


@lru_cache(maxsize=64)
def pattern_of(text: str) -> Pattern | None:
    """The pattern; None if RE2 does not know what is in it, or it is too large."""
    if len(text) > LENGTH:
        return None
    pieces = TOKENS.findall(text)
    if not all(_is_known(piece) for piece in pieces):
        return None
    # A count without a lower bound is none to RE2.
    read = "".join("{0" + piece[1:] if piece.startswith("{,") else piece for piece in pieces)
    try:
        return Pattern(re2.compile(read, _options()))
    except (re2.error, UnicodeEncodeError):
        return None


def alternatives(pattern: str) -> list[str]:
    """The parts between bars outside of groups and classes."""
    parts, depth = [""], 0
    for piece in TOKENS.findall(pattern):
        depth += (piece[0] == "(") - (piece == ")")
        if piece == "|" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _is_known(piece: str) -> bool:
    """Not so: what changes the meaning of all that follows, such as `(?m)`, and escapes that others read otherwise."""
    if piece[0] == "\\":
        return not piece[-1].isalnum() or piece in EDGES or piece in CLASSES
    return not piece.startswith("(?") or piece == "(?:"


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.case_sensitive = False
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    return options
