"""Reading ELF files."""

import sys
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.guest.elf import interpreter, needed, sections

from .elves import elf, program


def test_sections_by_name() -> None:
    assert sections(elf({".a": b"one", ".b": b""}))[".a"] == b"one"


def test_needed_libraries_and_loader() -> None:
    data = program("libz.so.1", "libc.so.6", loader="/lib64/ld-linux-x86-64.so.2")
    assert needed(data) == ["libz.so.1", "libc.so.6"]
    assert interpreter(data) == "/lib64/ld-linux-x86-64.so.2"


def test_static_program_needs_nothing() -> None:
    assert needed(elf({".text": b"x"})) == []
    assert interpreter(elf({".text": b"x"})) is None


def test_a_program_of_this_machine() -> None:
    assert any(name.startswith("libc.so") for name in needed(Path(sys.executable).resolve().read_bytes()))


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01", program("libc.so.6")[:70]])
def test_what_is_not_elf_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        sections(data)
