"""Regular expressions that take no longer than their text is long.

Users give them, and Python's own may go on for ever: `(a*)*b` on many an `a`. These are read as automata (Glushkov's: a
position for each character of the pattern) and run over all positions at once, as bits of a number. What cannot be read
so (looking around, back references, edges of words) is not offered.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from msgspec import Struct

Key = TypeVar("Key")

# How many positions an automaton may have; a count (`x{5}`) has so many of what it counts.
_POSITIONS = 128
_LENGTH = 255
_REMEMBERED = 1_000

# A character that is escaped, a class, a count, or any other character.
TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", re.DOTALL)
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_IN_CLASS = re.compile(r"(\\.|.)(?:-(\\.|.))?", re.DOTALL)


class _Unread(Exception):
    """The pattern has something that automata do not know, or is too long."""


class _Test(Struct, frozen=True):
    """Which characters a position takes: those of ranges, and those of kinds (`\\d`, `\\W`, ...); or all others.

    The case of letters does not matter.
    """

    ranges: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    negated: bool = False

    def takes(self, char: str) -> bool:
        cases = {char, char.lower(), char.upper()}
        found = any(low <= one <= high for low, high in self.ranges for one in cases)
        return (found or any(_is_kind(char, kind) for kind in self.kinds)) != self.negated


class _Repeat(Struct, frozen=True):
    """What there is `least` times at least, and `most` times at most; None: any number."""

    what: "_Node"
    least: int
    most: int | None


class _Row(Struct, frozen=True):
    """One after the other."""

    parts: tuple["_Node", ...] = ()


class _Choice(Struct, frozen=True):
    """One of them."""

    parts: tuple["_Node", ...]


_Node = _Test | _Repeat | _Row | _Choice


class _Part(Struct, frozen=True):
    """A part of an automaton: whether it takes the empty text, and the positions that may be its first and its last."""

    is_empty: bool
    first: int
    last: int


class _Automaton:
    """One alternative of a pattern."""

    def __init__(self, node: _Node, *, at_start: bool, at_end: bool) -> None:
        self._tests: list[_Test] = []
        self._after: list[int] = []
        self._part = self._build(node)
        self._at_start, self._at_end = at_start, at_end
        self._takers: dict[str, int] = {}
        self._reaches: dict[int, int] = {}

    def finds(self, text: str) -> bool:
        part, start, reach, active = self._part, 0 if self._at_start else self._part.first, self._part.first, 0
        if part.is_empty and not (self._at_start and self._at_end and text):
            return True
        for char in text:
            active = reach & self._taking(char)
            if active & part.last and not self._at_end:
                return True
            reach = self._behind(active) | start
        return bool(active & part.last)

    def _taking(self, char: str) -> int:
        """The positions that take a character."""
        if (found := self._takers.get(char)) is None:
            found = sum(1 << index for index, test in enumerate(self._tests) if test.takes(char))
            _remember(self._takers, char, found)
        return found

    def _behind(self, active: int) -> int:
        """The positions that may come behind these."""
        if (found := self._reaches.get(active)) is None:
            found = 0
            for index in _bits(active):
                found |= self._after[index]
            _remember(self._reaches, active, found)
        return found

    def _build(self, node: _Node) -> _Part:
        match node:
            case _Test():
                return self._position(node)
            case _Row(parts):
                return self._row([self._build(part) for part in parts])
            case _Choice(parts):
                built = [self._build(part) for part in parts]
                first, last = _union(part.first for part in built), _union(part.last for part in built)
                return _Part(any(part.is_empty for part in built), first, last)
            case _Repeat(what, least, most):
                return self._repeat(what, least, most)

    def _position(self, test: _Test) -> _Part:
        if len(self._tests) == _POSITIONS:
            raise _Unread
        self._tests.append(test)
        self._after.append(0)
        bit = 1 << len(self._tests) - 1
        return _Part(False, bit, bit)

    def _row(self, parts: Sequence[_Part]) -> _Part:
        whole = _Part(True, 0, 0)
        for part in parts:
            self._join(whole.last, part.first)
            first = whole.first | (part.first if whole.is_empty else 0)
            last = part.last | (whole.last if part.is_empty else 0)
            whole = _Part(whole.is_empty and part.is_empty, first, last)
        return whole

    def _repeat(self, what: _Node, least: int, most: int | None) -> _Part:
        times = max(least, 1) if most is None else most
        if times > _POSITIONS:
            raise _Unread
        parts = [self._build(what) for _ in range(times)]
        if most is None:
            self._join(parts[-1].last, parts[-1].first)
        parts = [part if at < least else _Part(True, part.first, part.last) for at, part in enumerate(parts)]
        return self._row(parts)

    def _join(self, before: int, behind: int) -> None:
        for index in _bits(before):
            self._after[index] |= behind


class Pattern:
    """A regular expression that is searched for, whatever the case of letters."""

    def __init__(self, automata: Sequence[_Automaton]) -> None:
        self._automata = automata

    def finds(self, text: str) -> bool:
        """Whether it is somewhere in the text."""
        return any(automaton.finds(text) for automaton in self._automata)


@lru_cache(maxsize=64)
def pattern_of(text: str) -> Pattern | None:
    """The pattern; None if it cannot be read as automata."""
    if len(text) > _LENGTH:
        return None
    try:
        return Pattern([_automaton_of(alternative) for alternative in alternatives(text)])
    except (_Unread, RecursionError):
        return None


def alternatives(pattern: str) -> list[str]:
    """The parts between bars outside of groups and classes."""
    parts, depth = [""], 0
    for piece in TOKENS.findall(pattern):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "|" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _automaton_of(alternative: str) -> _Automaton:
    pieces = TOKENS.findall(alternative)
    at_start = pieces[:1] == ["^"]
    at_end = pieces[-1:] == ["$"]
    reader = _Reader(pieces[at_start : len(pieces) - at_end])
    node = reader.choice()
    if reader.next is not None:
        raise _Unread
    return _Automaton(node, at_start=at_start, at_end=at_end)


class _Reader:
    """Reads a pattern's pieces into nodes."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = list(reversed(pieces))

    @property
    def next(self) -> str | None:
        return self._pieces[-1] if self._pieces else None

    def choice(self) -> _Node:
        """To the end of the group."""
        rows = [self._row()]
        while self.next == "|":
            self._pieces.pop()
            rows.append(self._row())
        return rows[0] if len(rows) == 1 else _Choice(tuple(rows))

    def _row(self) -> _Node:
        parts: list[_Node] = []
        while self.next not in (None, "|", ")"):
            parts.append(self._repeated(self._one(self._pieces.pop())))
        return _Row(tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        piece = self.next or ""
        if piece in _TIMES:
            least, most = _TIMES[piece]
        elif (count := _COUNT.fullmatch(piece)) and piece != "{}":
            least = int(count[1] or 0)
            most = None if count[2] and not count[3] else int(count[3] or least)
        else:
            return node
        self._pieces.pop()
        if self.next == "?":  # as few as possible: of no account where only whether there is one is asked
            self._pieces.pop()
        if (self.next or "") in _TIMES or _COUNT.fullmatch(self.next or ""):
            raise _Unread
        return _Repeat(node, least, most)

    def _one(self, piece: str) -> _Node:
        if piece == "(":
            return self._group()
        if piece == ".":
            return _Test(negated=True)
        if piece[0] == "[" and len(piece) > 1:
            return _class(piece)
        if piece in "^$*+?" or _COUNT.fullmatch(piece):
            raise _Unread
        char, kind = _char(piece)
        return _Test(kinds=(kind,)) if kind else _Test(ranges=((char, char),))

    def _group(self) -> _Node:
        if self.next == "?":
            if self._pieces[-2:-1] != [":"]:
                raise _Unread
            del self._pieces[-2:]
        node = self.choice()
        if self.next != ")":
            raise _Unread
        self._pieces.pop()
        return node


_TIMES = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def _class(piece: str) -> _Test:
    body = piece[1:-1].removeprefix("^")
    if "[" in body or any(pair in body for pair in ("--", "&&", "||", "~~")):
        raise _Unread  # what other languages, or later ones, read as more than characters
    ranges, kinds = [], []
    for first, last in _IN_CLASS.findall(body):
        low, kind = _char(first)
        high, other = _char(last) if last else (low, "")
        if last and (kind or other):
            raise _Unread
        if kind:
            kinds.append(kind)
        else:
            ranges.append((low, high))
    return _Test(tuple(ranges), tuple(kinds), negated=piece.startswith("[^"))


def _char(piece: str) -> tuple[str, str]:
    """The character that a piece stands for, or the kind of characters."""
    if piece[0] != "\\":
        return piece, ""
    char = piece[-1]
    if char in "dDwWsS":
        return "", char
    if char.isalnum() or len(piece) == 1:
        raise _Unread
    return char, ""


def _is_kind(char: str, kind: str) -> bool:
    match kind.lower():
        case "d":
            found = char.isdecimal()
        case "w":
            found = char.isalnum() or char == "_"
        case _:
            found = char.isspace()
    return found != kind.isupper()


def _bits(positions: int) -> Iterator[int]:
    while positions:
        yield (positions & -positions).bit_length() - 1
        positions &= positions - 1


def _union(sets: Iterator[int]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found


def _remember(known: dict[Key, int], key: Key, value: int) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known[key] = value
