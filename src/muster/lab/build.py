"""Building a lab: network, engines, control machines, hosts; what does not depend on each other at the same time.

Invariant: a lab that cannot be built whole, or whose building is interrupted, is taken down again.
"""

import json
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import yaml

from muster.lab import network
from muster.lab.cluster import Lab
from muster.lab.parts.control import METRICS_PORT
from muster.lab.plan import ENGINES, HOSTS, Kind, LabSettings, Part, Plan, make_plan
from muster.lab.privileges import require_root
from muster.lab.site import Site, make, write_private
from muster.lab.subnets import free_subnet, lab_id
from muster.lab.takedown import take_down


class Observer(Protocol):
    """Is told how it goes, from several threads."""

    def begins(self, part: Part) -> None:
        """A part is being started."""

    def ready(self, part: Part) -> None:
        """It is ready."""


class Silent:
    """Nobody watches."""

    def begins(self, part: Part) -> None:
        """Nothing."""

    def ready(self, part: Part) -> None:
        """Nothing."""


def planned(folder: Path, settings: LabSettings) -> Plan:
    """What a lab in this folder would be. Raises Invalid, Exhausted; Unsupported without root."""
    require_root()
    name = lab_id(folder)
    return make_plan(name, free_subnet(name, network.taken_networks()), settings)


def build(folder: Path, plan: Plan, environment: Mapping[str, str], observer: Observer | None = None) -> Lab:
    """Make a lab, and wait until all of it is ready. To be called by who holds the folder.

    Raises Conflict when there is one already, Unsupported when something is not installed, Transient when a part does
    not become ready. Whatever is raised, KeyboardInterrupt too, what was made is gone by then; logs stay.
    """
    site = make(folder, plan, environment)
    try:
        network.build(plan)
        lab = Lab(site)
        for kinds in (ENGINES, {Kind.CONTROL}):
            _bring_up(lab, plan.of(*kinds), observer or Silent())
        _write_clouds(site)
        _bring_up(lab, plan.of(*HOSTS), observer or Silent())
    except BaseException:
        with _undisturbed():
            take_down(folder, environment, keep_logs=True)
        raise
    return lab


@contextmanager
def lab_running(settings: LabSettings, environment: Mapping[str, str]) -> Iterator[Lab]:
    """A lab in a folder of its own, which is gone afterwards; for tests and benchmarks."""
    folder = Path(tempfile.mkdtemp(prefix="muster-lab-"))
    try:
        yield build(folder, planned(folder, settings), environment)
    finally:
        take_down(folder, environment)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Whoever interrupts twice waits for the end of what the first interruption has begun."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bring_up(lab: Lab, parts: list[Part], observer: Observer) -> None:
    """All of these at the same time. The first that fails ends the waiting for the others."""
    if not parts:
        return
    ends = threading.Event()

    def one(part: Part) -> None:
        observer.begins(part)
        lab.start_first(part, ends.is_set)
        observer.ready(part)

    with ThreadPoolExecutor(len(parts)) as pool:
        futures: list[Future[None]] = [pool.submit(one, part) for part in parts]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            ends.set()
    for future in done:
        future.result()


def _write_clouds(site: Site) -> None:
    """How clients reach the first control machine (`muster`) and each (`muster-1`, ...); what Prometheus reads."""
    machines = site.plan.of(Kind.CONTROL)
    clouds: dict[str, object] = {}
    for number, part in enumerate(machines, 1):
        made = yaml.safe_load((site.part_folder(part) / "clouds.yaml").read_text())["clouds"]["muster"]
        clouds[f"muster-{number}"] = made
    named = {"muster": clouds["muster-1"]} | (clouds if len(machines) > 1 else {})
    write_private(site.folder / "clouds.yaml", yaml.safe_dump({"clouds": named}, sort_keys=False).encode())
    targets = [
        {
            "targets": [f"{part.address}:{METRICS_PORT + i}" for i in range(part.size if part in machines else 1)],
            "labels": {"lab": site.plan.lab_id, "part": part.name, "kind": part.kind.value},
        }
        for part in site.plan.of(Kind.CONTROL, *HOSTS)
    ]
    write_private(site.folder / "metrics-targets.json", json.dumps(targets, indent=1).encode())
