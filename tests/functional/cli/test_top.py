"""`muster top` against real listeners: tables, JSON, targets from arguments, files and settings, and bad input."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry, Histogram, start_http_server

from muster.cli.top import top
from muster.top import scrape


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers does so in time, on however slow a machine."""
    monkeypatch.setattr(scrape, "TIMEOUT_S", 300.0)


@pytest.fixture
def target() -> Iterator[str]:
    """A process whose lock is waited for more and more."""
    registry = CollectorRegistry()
    lock = Histogram("muster_lock_wait_seconds", "", ["kind"], registry=registry)

    class Waiting:
        def collect(self) -> Iterator[object]:
            lock.labels("subnet").observe(5.0)
            yield from ()

    registry.register(Waiting())  # type: ignore[arg-type]
    lock.labels("subnet").observe(5.0)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(300)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(top, [*arguments, "--every-s", "0.1"])


def test_one_look_names_what_is_contended(target: str) -> None:
    result = run(target, "127.0.0.1:1", "--once")
    assert result.exit_code == 0, result.output
    assert "1 of 2 processes answer" in result.output
    assert "Most contended: lock subnet" in result.output
    assert "Connection refused" in result.output


def test_scripts_get_a_line_of_json(target: str, tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    file.write_text(json.dumps([{"targets": [target], "labels": {"role": "worker"}}]))
    result = run("--targets", str(file), "--once", "--json")
    assert result.exit_code == 0, result.output
    picture = json.loads(result.output)
    assert picture["most_contended"] == "lock subnet"
    assert picture["processes"][0]["target"] == target


def test_targets_are_those_of_the_settings(target: str, tmp_path: Path) -> None:
    settings = tmp_path / "muster.toml"
    settings.write_text(f'folder = "{tmp_path}"\n[serve]\nworkers = 1\nmetrics_port = {target.rpartition(":")[2]}\n')
    settings.chmod(0o600)
    assert "1 of 1 processes answer" in run("--settings", str(settings), "--once").output


@pytest.mark.parametrize(
    ("bind", "asked"),
    [("127.0.0.3", "127.0.0.3:1"), ("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1")],
)
def test_workers_are_asked_where_they_listen(bind: str, asked: str, tmp_path: Path) -> None:
    """They were asked on 127.0.0.1 once, wherever they listened."""
    settings = tmp_path / "muster.toml"
    settings.write_text(f'folder = "{tmp_path}"\n[serve]\nworkers = 1\nmetrics_port = 1\nmetrics_bind = "{bind}"\n')
    settings.chmod(0o600)
    assert f"{asked}: " in run("--settings", str(settings), "--once").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:1"], "Connection refused"),
        (["ftp://host"], "is not a target"),
        (["127.0.0.1:port"], "is not a target"),
        (["127.0.0.1:99999"], "is not a target"),
        (["[::1"], "is not a target"),
        (["--targets", "/nowhere.json"], "/nowhere.json cannot be read"),
        (["--targets", __file__], "is not a list of targets"),
    ],
)
def test_bad_input_says_what_to_do(arguments: list[str], said: str) -> None:
    result = run(*arguments, "--once")
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_settings_without_metrics_say_which_to_set(tmp_path: Path) -> None:
    settings = tmp_path / "muster.toml"
    settings.write_text(f'folder = "{tmp_path}"\n')
    settings.chmod(0o600)
    result = run("--settings", str(settings), "--once")
    assert result.exit_code == 1
    assert "serve.metrics_port" in result.output
