"""Help and completion: every command is there, says what its options mean, and completes in the shell."""

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from muster.cli.completion import SHELLS
from muster.cli.main import main


def muster(*arguments: str, **environment: str) -> str:
    command, env = [sys.executable, "-m", "muster", *arguments], {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=env).stdout


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands(main)), ids=lambda value: str(value)[:40])
def test_help_says_what_a_command_and_each_of_its_options_do(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help, path
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_given_its_script(shell: str) -> None:
    assert "_MUSTER_COMPLETE" in muster("completion", shell)


@pytest.mark.parametrize(
    ("typed", "completed"), [("muster de", "demo"), ("muster bench ser", "servers"), ("muster demo --gue", "--guests")]
)
def test_what_was_typed_is_completed(typed: str, completed: str) -> None:
    words = typed.split()
    said = muster(COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1), _MUSTER_COMPLETE="bash_complete")
    assert f"plain,{completed}" in said.splitlines()


def test_bash_itself_understands_the_script() -> None:
    subprocess.run(["bash", "-n"], input=muster("completion", "bash"), text=True, check=True, timeout=300)
