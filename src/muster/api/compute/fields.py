"""Values that many bodies have, checked and refused as Nova does."""

import unicodedata

from muster.base.errors import Invalid

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})
INT_LIMIT = 0x7FFF_FFFF


def check_name(value: str, field: str = "name") -> str:
    """A name: 1 to 255 printable characters, no spaces at its ends. Raises Invalid."""
    if not 1 <= len(value) <= 255:
        raise refused(field, value, "it must have 1 to 255 characters")
    if value != value.strip() or not all(map(_printable, value)):
        raise refused(field, value, "it must be printable, without spaces at its ends")
    return value


def check_printable(value: str | None, field: str) -> None:
    """A text without control characters and line ends, or none. Raises Invalid."""
    if value is not None and not all(map(_printable, value)):
        raise refused(field, value, "it must be printable")


def check_text(value: str | None, field: str, *, limit: int) -> str | None:
    """A text of any characters but NUL, or none. Raises Invalid."""
    if value is not None and (len(value) > limit or "\x00" in value):
        raise refused(field, value, f"it may have {limit} characters, none of them NUL")
    return value


def check_range(value: int, field: str, *, low: int, high: int = INT_LIMIT) -> int:
    """A number within its bounds. Raises Invalid."""
    if not low <= value <= high:
        raise refused(field, str(value), f"it must be from {low} to {high}")
    return value


def boolean(value: bool | str, field: str) -> bool:
    """A truth value, also in the words that Nova takes for one. Raises Invalid."""
    if isinstance(value, bool):
        return value
    if value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise refused(field, value, "it is not a truth value")


def lenient_boolean(text: str) -> bool:
    """A truth value; what is none is False, as with some of Nova's filters."""
    return text.strip().lower() in _TRUE


def refused(field: str, value: str, why: str) -> Invalid:
    """The error of a field's value."""
    shown = value if len(value) <= 80 else value[:80] + "..."
    return Invalid(f"Invalid input for field/attribute {field}. Value: {shown}. {why}")


def _printable(character: str) -> bool:
    """As Nova has it: all but control, format, surrogate and unassigned characters and line separators."""
    category = unicodedata.category(character)
    return category == "Zs" or (category[0] not in "CZ")
