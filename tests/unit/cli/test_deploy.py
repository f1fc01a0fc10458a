"""The examples in deploy/ are understood by the commands that they are for."""

import re
import shlex
import tomllib
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest

from muster.base.errors import Invalid
from muster.cli.kept import kept
from muster.cli.main import main
from muster.cli.settings import Settings, read_settings, require_host, require_serve

DEPLOY = Path(__file__).parents[3] / "deploy"
PLACEHOLDER, SECRET = "CHANGE-ME-to-what-openssl-rand-hex-32-prints", "5" * 64
Requirement = Callable[[Settings, Path], None]


def _real_host(settings: Settings, path: Path) -> None:
    require_host(settings, path, is_real=True)


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("one-machine.toml", [require_serve]),
        ("control.toml", [require_serve]),
        ("host.toml", [_real_host]),
    ],
)
def test_example_settings_suffice(name: str, required: list[Requirement], tmp_path: Path) -> None:
    path = tmp_path / name
    path.touch(0o600)
    path.write_text((DEPLOY / name).read_text().replace(PLACEHOLDER, SECRET))
    settings = read_settings(path)
    for requirement in required:
        requirement(settings, path)


@pytest.mark.parametrize("example", sorted(DEPLOY.glob("*.toml")), ids=lambda path: path.name)
def test_what_examples_offer_in_comments_is_understood(example: Path, tmp_path: Path) -> None:
    path = tmp_path / "muster.toml"
    path.touch(0o600)
    text = example.read_text().replace(PLACEHOLDER, SECRET)
    path.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    read_settings(path)


@pytest.mark.parametrize("name", ["one-machine.toml", "control.toml"])
def test_the_secret_of_an_example_is_none(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.touch(0o600)
    path.write_text((DEPLOY / name).read_text())
    with pytest.raises(Invalid, match=r"secret: .*openssl rand"):
        read_settings(path)


def test_all_examples_are_tested() -> None:
    assert {path.name for path in DEPLOY.glob("*.toml")} == {"one-machine.toml", "control.toml", "host.toml"}


def _unit(name: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((DEPLOY / "systemd" / name).read_text())
    return parser


@pytest.mark.parametrize(
    ("example", "unit", "settings"),
    [
        ("one-machine.toml", "muster-serve.service", "muster.toml"),
        ("control.toml", "muster-serve.service", "muster.toml"),
        ("host.toml", "muster-host.service", "host.toml"),
    ],
)
def test_examples_are_where_units_look_for_them(example: str, unit: str, settings: str) -> None:
    """The one machine's host had no settings file, and `muster kept` looked where no host of the examples is."""
    text, service = (DEPLOY / example).read_text(), _unit(unit)["Service"]
    assert f"/etc/muster/{settings}, mode 0600" in text
    assert f"--settings /etc/muster/{settings}" in service["ExecStart"]
    assert tomllib.loads(text)["folder"] == f"/var/lib/{service['StateDirectory']}"


def test_guests_that_are_kept_are_looked_for_at_the_examples_host() -> None:
    data = next(param for param in kept.params if param.name == "data")
    assert str(data.default) == tomllib.loads((DEPLOY / "host.toml").read_text())["folder"]


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("systemd/*.service")), ids=lambda path: path.name)
def test_units_start_what_there_is(unit: Path) -> None:
    parser = _unit(unit.name)
    program, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert Path(program).name == "muster"
    context = click.Context(main)
    name, command, rest = main.resolve_command(context, arguments)
    assert command is not None
    made = command.make_context(name, rest, parent=context)  # raises for an option that is not there
    assert made.params
    # A machine's address may come long after the unit was started first (five times in 10 s is systemd's default).
    assert parser["Service"]["Restart"] == "always"
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
