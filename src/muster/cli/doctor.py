"""`muster doctor`: looks at this host, says what is wrong for many guests on it, and how to mend it."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from muster.base.errors import Invalid, MusterError
from muster.cli.built_guest import cache_dir
from muster.doctor.console import drawn
from muster.doctor.diagnosis import diagnose, planned_guests
from muster.doctor.facts import Facts, sysctl_path
from muster.doctor.findings import Finding, Level, Plan
from muster.doctor.reader import read_facts
from muster.doctor.sysctls import FILE, Change, apply, overruled, wanted
from muster.doctor.texts import dotted

_VERSION_S = 5.0
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # struct timex has 208 on 64 bits


@click.command()
@click.option(
    "--guests", type=click.IntRange(1, 100_000), help="Guests planned here.  [default: as many as memory has room for]"
)
@click.option(
    "--idle-timeout-s", type=click.IntRange(1, 10_000_000), help="When firewalls on the way forget idle connections."
)
@click.option("--all", "is_whole", is_flag=True, help="Show what is good, too.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object; the ids of checks stay the same.")
@click.option("--fix", is_flag=True, help=f"Write the kernel settings that checks ask for to {FILE}, and apply them.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Look at a copy of a machine's files.",
)
def doctor(  # noqa: PLR0913 - one per option
    guests: int | None, idle_timeout_s: int | None, *, is_whole: bool, as_json: bool, fix: bool, yes: bool, root: Path
) -> None:
    """Check a host: limits, versions with known faults, network, memory, clock, messages.

    As root it sees more. Works without Muster, and on OpenStack's compute nodes. docs/doctor.md explains each check.
    Exit status: 0 nothing is wrong, 1 there are problems, 2 it could not look.
    """
    try:
        facts = _look(root)
        if guests is None and facts.ram_mib() is None:
            raise Invalid("How much memory this machine has is not known; say how many guests are planned: --guests N")
        plan = Plan(guests=guests or planned_guests(facts), idle_timeout_s=idle_timeout_s)
        findings = diagnose(facts, plan)
        if not as_json:
            Console().print(drawn(findings, plan, is_whole=is_whole))
        changes: list[Change] = []
        if fix:
            changes = _mend(wanted(findings, facts), root, is_silent=as_json, is_sure=yes)
            facts = _look(root)
            findings = diagnose(facts, plan)
        if as_json:
            click.echo(_json(facts, findings, plan, changes))
    except MusterError as error:
        click.echo(f"Error: {error.message}", err=True)
        sys.exit(2)
    sys.exit(1 if any(finding.level is Level.PROBLEM for finding in findings) else 0)


def _look(root: Path) -> Facts:
    if not os.path.isdir(root / "proc"):
        raise Invalid(f"{root} has no /proc: this is neither a Linux host nor a copy of one's files")
    is_here = os.path.realpath(root) == "/"
    return read_facts(
        root,
        verdict=cache_dir() / "accelerator.json",
        clock=_is_synchronised if is_here else None,
        run=_version_of if is_here else None,
    )


def _mend(changes: list[Change], root: Path, *, is_silent: bool, is_sure: bool) -> list[Change]:
    """Ask, change, say what was changed and how to take it back."""
    if not changes:
        click.echo("There is nothing that --fix can set.", err=is_silent)
        return []
    for change in changes:
        click.echo(f"  {change.name}: {change.before} -> {change.after}", err=True)
    if not is_sure:
        if is_silent or not _can_ask():
            raise Invalid("--fix asks before it changes anything; where nobody can answer, say --yes")
        if not click.confirm(f"Write these to {FILE} and apply them?", err=True):
            return []
    changed = apply(changes, root)
    for change in changed:
        click.echo(
            f"{change.name} = {change.after}{f': not applied: {change.error}' if change.error else ''}", err=is_silent
        )
    for name, file in overruled(changed, root).items():
        click.echo(f"{file} sets {name} as well, and is read after {FILE} at boot: change it there", err=is_silent)
    click.echo(f"To take it back: rm {FILE}; {'; '.join(change.back for change in changed)}", err=is_silent)
    return changed


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _json(facts: Facts, findings: list[Finding], plan: Plan, changes: list[Change]) -> bytes:
    counts = {level.value.replace(" ", "_"): sum(one.level is level for one in findings) for level in Level}
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "host": facts.text(sysctl_path("kernel.hostname")) or "",
                "versions": {part: dotted(version) for part, version in sorted(facts.versions.items())},
                "guests": plan.guests,
                "counts": counts,
                "findings": findings,
                "fixed": changes,
            }
        )
    )


def _is_synchronised() -> bool | None:
    """What the kernel says; nothing is set. None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _version_of(program: str) -> str:
    """What `PROGRAM --version` prints; nothing if it is not there or does not answer."""
    path = shutil.which(program, path=os.defpath + ":/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - one of four programs, no text of others
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
