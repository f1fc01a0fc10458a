"""Removing a lab: completely, also one that was half built, whose records are gone, or that was removed already.

Invariant: everything that runs is found by the lab's namespaces, and those by the lab's id, which the folder's path
gives; files are removed by name, so that a folder which is no lab's loses nothing.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Conflict, MusterError, NotFound
from muster.lab import network, processes
from muster.lab.parts.hosts import end_guests
from muster.lab.plan import Kind
from muster.lab.site import ENTRIES, load
from muster.lab.subnets import lab_id


class Removed(Struct, frozen=True, kw_only=True):
    """What there was. `troubles` are sentences about what could not be done in its own way."""

    processes: int = 0
    namespaces: int = 0
    links: int = 0
    files: bool = False
    troubles: tuple[str, ...] = ()


def take_down(folder: Path, environment: Mapping[str, str], *, keep: bool = False, keep_logs: bool = False) -> Removed:
    """End and remove all of a folder's lab. To be called by who holds the folder.

    `keep` leaves its files, `keep_logs` its logs. Raises Transient when something does not end.
    """
    troubles = _end_real_hosts(folder, environment)
    name = lab_id(folder)
    with _held(network.namespaces(name).values()) as numbers:
        killed = processes.kill_all(numbers)
        gone = network.remove(name)
        killed += processes.kill_all(numbers)  # what was on its way into one of them
    files = False if keep else _remove_files(folder, keep_logs=keep_logs)
    links = gone.count(network.link_name(name))
    return Removed(processes=killed, namespaces=len(gone) - links, links=links, files=files, troubles=tuple(troubles))


@contextlib.contextmanager
def _held(namespaces: Iterable[Path]) -> Iterator[set[int]]:
    """The numbers of the namespaces, which stay theirs meanwhile."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in namespaces]
        yield {os.fstat(file.fileno()).st_ino for file in files}


def _end_real_hosts(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Real hosts have things outside of their namespace: their own command takes them away. What went wrong."""
    troubles = []
    with contextlib.suppress(NotFound, Conflict):
        site = load(folder, environment)
        for part in site.plan.of(Kind.REAL_HOST):
            if site.part_folder(part).exists():
                try:
                    end_guests(site, part)
                except MusterError as error:
                    troubles.append(error.message)
    return troubles


def _remove_files(folder: Path, *, keep_logs: bool) -> bool:
    """Whether there were any."""
    found = [folder / name for name in ENTRIES if (folder / name).exists() and not (keep_logs and name == "log")]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return bool(found)
