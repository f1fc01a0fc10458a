"""`muster lab`: a whole cluster on this machine, to try out, to break and to measure."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from muster.base.errors import Invalid, MusterError
from muster.base.log import configure
from muster.cli.built_guest import image_for_cloud
from muster.cli.data_folder import held, stop_owner
from muster.cli.lab_console import BuildProgress, parts_table, usage
from muster.cli.requirements import require_real_guests
from muster.lab.build import build, planned
from muster.lab.cluster import Lab
from muster.lab.plan import LabSettings
from muster.lab.processes import inside
from muster.lab.site import load
from muster.lab.takedown import take_down

_STOP_TIMEOUT_S = 180.0
_DATA = click.option(
    "--data", type=click.Path(path_type=Path), default=Path("var/lab"), show_default=True, help="The lab's folder."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
_PARTS = click.argument("parts", nargs=-1, required=True, metavar="PART...")


@click.group()
def lab() -> None:
    """A whole cluster on this machine: PostgreSQL, three etcd, RabbitMQ, workers and hosts, each part in a network
    namespace of its own, so that it can be killed, paused or cut off by itself. Needs root.

    `muster lab up` builds it, `muster lab status` shows it, `muster lab down` removes it without a trace.
    """
    configure(level="WARNING")


@lab.command()
@_DATA
@click.option("--workers", default=2, show_default=True, help="Workers of the control plane.")
@click.option("--machines", default=1, show_default=True, help="Control machines that they are spread over.")
@click.option("--sim-hosts", default=20, show_default=True, help="Simulated hosts.")
@click.option("--sim-processes", default=1, show_default=True, help="Processes that they are spread over.")
@click.option("--sim-boot-s", default=0.0, show_default=True, help="How long simulated guests boot.")
@click.option("--real-hosts", default=0, show_default=True, help="Hosts with real guests (libvirt, QEMU).")
@click.option("--own-images", is_flag=True, help="Each control machine has an image folder of its own.")
@click.option("--lock-lease-s", default=10, show_default=True, help="A worker silent for so long loses its locks.")
@_JSON
def up(data: Path, as_json: bool, **sizes: Any) -> None:
    """Build a lab in the folder DATA.

    Returns when all of it is ready, and leaves it running. Interrupted, or when something of it does not start, it is
    taken down again; its logs stay in DATA/log.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, signal.default_int_handler)
    data = data.absolute()
    console = Console(stderr=True)
    with _told("Interrupted; what was made is gone."):
        try:
            settings = msgspec.convert(sizes, LabSettings)
        except msgspec.ValidationError as error:
            raise Invalid(f"no such lab can be: {error}") from error
        if settings.real_hosts:
            settings = _with_real_guests(settings)
        with _held(data), BuildProgress(console) as progress:
            made = build(data, planned(data, settings), dict(os.environ), progress)
        rows = made.status()
        if as_json:
            click.echo(json.dumps({"clouds_yaml": str(made.clouds_yaml), "parts": msgspec.to_builtins(rows)}))
        else:
            Console().print(parts_table(rows))
            click.echo(usage(made.folder))


@lab.command()
@_DATA
@_JSON
def status(data: Path, as_json: bool) -> None:
    """What the parts of the lab do, with their addresses and processes."""
    with _told():
        rows = _lab(data).status()
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows)))
    else:
        Console().print(parts_table(rows))


@lab.command()
@_DATA
@click.option("--keep", is_flag=True, help="Leave its files.")
@_JSON
def down(data: Path, keep: bool, as_json: bool) -> None:
    """End and remove all of the lab.

    Its processes, namespaces, links and files; also after a crash, and also twice.
    """
    data = data.absolute()
    existed = os.path.isdir(data)
    with _told():
        if existed and stop_owner(data, _STOP_TIMEOUT_S):
            click.echo("Stopped: the `muster lab up` that was building it", err=True)
        with _held(data):
            removed = take_down(data, dict(os.environ), keep=keep)
    if not keep:
        _remove_empty(data)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(removed)))
        return
    for trouble in removed.troubles:
        click.echo(trouble, err=True)
    counted = {"process": removed.processes, "network namespace": removed.namespaces, "link": removed.links}
    words = [f"{n} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}" for noun, n in counted.items() if n]
    words += ["its files"] * removed.files
    click.echo(f"Removed: {', '.join(words)}" if words else "There is nothing of a lab here.")


def _verb(name: str, does: Callable[[Lab, tuple[str, ...]], object], says: str, help_text: str) -> None:
    """A command that does something to parts."""

    @lab.command(name, help=help_text)
    @_PARTS
    @_DATA
    @_JSON
    def command(parts: tuple[str, ...], data: Path, as_json: bool) -> None:
        _do(data, parts, lambda there: does(there, parts), says, as_json=as_json)


_verb("kill", lambda there, parts: there.kill(*parts), "Killed", "End parts or workers at once (kill -9).")
_verb("pause", lambda there, parts: there.pause(*parts), "Paused", "Let parts or workers hang (SIGSTOP).")
_verb("resume", lambda there, parts: there.resume(*parts), "Resumed", "Let paused parts or workers go on (SIGCONT).")
_verb("stop", lambda there, parts: there.stop(*parts), "Stopped", "Let parts end in their own way (SIGTERM).")
_verb("start", lambda there, parts: there.start(*parts), "Started", "Start parts that are down; wait until ready.")
_verb("restart", lambda there, parts: there.restart(*parts), "Restarted", "Stop parts and start them again.")
_verb("cut", lambda there, parts: there.cut(*parts), "Cut off", "Pull parts' network cables.")
_verb("join", lambda there, parts: there.join(*parts), "Joined", "Plug parts in again, at full speed.")


@lab.command()
@_PARTS
@click.option("--kbit-s", type=click.IntRange(8), required=True, help="Kilobits per second, each way.")
@_DATA
@_JSON
def slow(parts: tuple[str, ...], kbit_s: int, data: Path, as_json: bool) -> None:
    """Let little through parts' network cables.

    Until `muster lab join`.
    """
    _do(data, parts, lambda there: there.slow(kbit_s, *parts), "Slowed down", as_json=as_json)


@lab.command(context_settings={"ignore_unknown_options": True})
@_DATA
@click.argument("part")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def enter(data: Path, part: str, command: tuple[str, ...]) -> None:
    """Run a command where PART runs.

    In its network namespace; a shell, if no command is named.
    """
    with _told():
        there = _lab(data)
        words = inside(there.site.namespace(there.part(part)), command or (os.environ.get("SHELL", "/bin/sh"),))
    raise SystemExit(subprocess.run(words, check=False).returncode)


def _do(data: Path, parts: tuple[str, ...], does: Callable[[Lab], object], says: str, *, as_json: bool) -> None:
    with _told():
        there = _lab(data)
        does(there)
        rows = [row for row in there.status() if row.name in parts] if as_json else []
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows)))
    else:
        click.echo(f"{says}: {', '.join(parts)}")


def _with_real_guests(settings: LabSettings) -> LabSettings:
    """What real hosts need is here, and the guest's image is built. Raises Unsupported, which says what to do."""
    require_real_guests()
    return msgspec.structs.replace(settings, guest_image=str(image_for_cloud(is_new=True)))


def _lab(data: Path) -> Lab:
    return Lab(load(data.absolute(), dict(os.environ)))


@contextlib.contextmanager
def _told(interrupted: str = "Interrupted.") -> Iterator[None]:
    """Errors are told as users want them."""
    try:
        yield
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:  # a full disk, say
        raise click.ClickException(f"{error.strerror or error}: {error.filename or 'the lab'}") from error
    except KeyboardInterrupt as error:
        raise click.ClickException(interrupted) from error


@contextlib.contextmanager
def _held(data: Path) -> Iterator[None]:
    try:
        with held(data):
            yield
    finally:
        _remove_empty(data)


def _remove_empty(data: Path) -> None:
    """A folder in which nothing of a lab is any more goes with the lab."""
    if os.path.isdir(data) and {entry.name for entry in data.iterdir()} <= {"lock"}:
        (data / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            data.rmdir()
