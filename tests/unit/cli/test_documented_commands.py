"""What the README and the pages under docs tell people to type is understood by `muster`."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from muster.cli.main import main

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "subsystems").glob("*.md")),
]
# In backticks, or a line of an indented or fenced block; up to what a shell takes apart, or a column of explanations.
_CODE = re.compile(r"`([^`\n]+)`|^(?:    |\$ |(?=sudo |muster |\.venv/))(.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[\s/(;])muster ((?:(?!  )[^;|>#&<\n])+)")


def commands(text: str) -> Iterator[str]:
    for code in _CODE.finditer(text):
        yield from _COMMAND.findall(code[1] or code[2])


def resolved(words: list[str]) -> tuple[click.Command, list[str]] | None:
    """The command that the words name, and those behind its name; None for prose, as 'muster ends'."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            return None if command is main else (command, words)
        command, words = inner, words[1:]
    return command, words


def options(words: list[str]) -> Iterator[str]:
    for word in words:
        if word in ("--", "muster"):  # what another command is told
            return
        if name := re.match(r"--[a-z][a-z0-9-]*", word):
            yield name[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_are_there(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        found = resolved(line.split())
        if found is None:
            continue
        command, words = found
        there = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert set(options(words)) <= there, f"{page.name}: muster {line}"


def test_pages_name_commands() -> None:
    """Else nothing is tested above."""
    said = [line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))]
    named = {line.split()[0] for line in said}
    assert {"up", "serve", "host", "kept", "restored", "doctor", "lab", "top", "soak", "fit", "bench"} <= named
    assert any("--settings" in line for line in said)


def groups(group: click.Group) -> Iterator[click.Group]:
    yield group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from groups(command)


def test_lists_of_commands_say_what_each_does_in_whole_sentences() -> None:
    """click cuts what is too long for a line."""
    for group in groups(main):
        said = CliRunner().invoke(group, ["--help"]).output
        assert "..." not in said.partition("Commands:")[2], group.name
