"""A cloud with this machine as its host, in a network namespace of its own, and what its servers cost it."""

import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.boot_watch import machine_used_s, memory_watched, used_by
from benchmarks.family import Family, Started
from benchmarks.process import cpu_s
from benchmarks.spaces import Space
from benchmarks.stage import Stage, on_stage
from muster.base.errors import Transient
from muster.base.tasks import to_its_end
from muster.base.units import MIB
from muster.bench.launch import cloud_launch, take_down
from muster.bench.measure import Inspect
from muster.bench.options import ServersOptions
from muster.bench.records import ServerRecord, ServersResult
from muster.bench.run import run_servers
from muster.client.api import Api, Call
from muster.client.cloud import Service
from muster.client.http import Request
from muster.client.listing import Listing
from muster.domain.timeline import STEPS

GUEST_MIB = 128  # as `guest.tiny`
_FLAVOR, _IMAGE = "guest.boot", "guest"
_START_S, _PHASE_S, _REQUEST_S = 300.0, 3600.0, 30.0
_POLLS, _MORE_POLLS = ("GET servers/detail", "GET servers"), 20
_LIBVIRT_CALLS = "muster_libvirt_calls_total"
_MESSAGES, _HEARTBEATS = "muster_messages_total", "muster_heartbeats_total"
_MERGED = "muster_ksm_saved_bytes"


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What has been used, in CPU seconds, called and started up to a moment. `started` None: it is not known here.

    `messages` are those besides heartbeats, of which a host sends one every few seconds whatever happens.
    `merged_mib`: what the machine would need on top without KSM.
    """

    at_s: float
    guests_s: float
    muster_s: float
    libvirtd_s: float
    machine_s: float
    libvirt_calls: float = 0.0
    messages: float = 0.0
    heartbeats: float = 0.0
    merged_mib: float = 0.0
    started: Started | None = None


class MusterRound(msgspec.Struct, frozen=True, kw_only=True):
    """One round. `timelines` are the servers' steps in Unix seconds. `ready`: all were up; `gone`: all were deleted.

    `poll_s` is what one of the client's `polls` costs Muster, in CPU seconds: of some more, while all were up.
    """

    result: ServersResult
    timelines: list[dict[str, float]]
    before: Costs
    ready: Costs
    gone: Costs
    peak_mib: float
    polls: int
    poll_s: float


class RealCloud:
    """A running cloud and its rounds."""

    def __init__(self, stage: Stage, folder: Path, space: Space, family: Family | None) -> None:
        self._stage = stage
        self._folder = folder
        self._space = space
        self._family = family

    async def make_flavor(self, guest_mib: int) -> None:
        """The one that all guests have."""
        body = {"flavor": {"name": _FLAVOR, "ram": guest_mib, "vcpus": 1, "disk": 0}}
        await self._stage.api.send(Call("POST flavors", "POST", Service.COMPUTE, "/flavors", body))

    async def a_guests_command(self) -> list[str]:
        """The command line of QEMU for one guest, which is made for it and removed."""
        command: list[str] = []

        async def look(_api: Api, _records: Sequence[ServerRecord]) -> None:
            for process in self._space.processes("qemu-system"):
                command.extend(_arguments(process))

        await self._run(1, look)
        if not command:
            raise Transient(f"no guest has started; see {self._stage.process.log}")
        return command

    async def warm_up(self) -> None:
        """One guest comes and goes: libvirt has asked QEMU what it can do, and the image is in memory."""
        await self._run(1, None)

    async def round(self, count: int) -> MusterRound:
        """So many servers asked for at once, all ready, then all deleted."""
        moments: list[Costs] = []
        timelines: list[dict[str, float]] = []

        polled_s: list[float] = []

        async def look(api: Api, records: Sequence[ServerRecord]) -> None:
            moments.append(await self._costs())
            timelines.extend(self._timelines([record.id for record in records if record.id is not None]))
            polled_s.append(await self._polled(api, records))

        self._space.enter()
        before = await self._costs()
        async with memory_watched() as peak:
            result = await self._run(count, look)
        gone = await self._costs()
        gone = replace(gone, guests_s=moments[0].guests_s, muster_s=gone.muster_s - polled_s[0])
        requests = result.traffic.requests
        return MusterRound(
            result=result,
            timelines=timelines,
            before=before,
            ready=moments[0],
            gone=gone,
            peak_mib=peak.used_mib,
            polls=sum(count for what, count in requests.items() if what in _POLLS) - _MORE_POLLS,
            poll_s=polled_s[0] / _MORE_POLLS,
        )

    async def _polled(self, api: Api, records: Sequence[ServerRecord]) -> float:
        """What some polls of these servers, as the client makes them, cost Muster in CPU seconds."""
        listing = Listing(api, records[0].name.rpartition("-")[0] + "-")
        before_s = cpu_s(self._stage.process.pid)
        for _ in range(_MORE_POLLS):  # the first lists all, as every tenth second's does
            await listing.changed(0.0)
        return cpu_s(self._stage.process.pid) - before_s

    async def _run(self, count: int, look: Inspect | None) -> ServersResult:
        self._space.enter()
        options = ServersOptions(
            count=count,
            flavor=_FLAVOR,
            image=_IMAGE,
            network="default",
            timeout_s=_PHASE_S,
            cloud="muster",
            config_files=(str(self._stage.process.clouds_yaml),),
        )
        return await run_servers(options, inspect=look)

    async def _costs(self) -> Costs:
        metrics = await self._metrics()
        return Costs(
            at_s=time.monotonic(),
            guests_s=used_by(self._space.processes("qemu-system")),
            muster_s=cpu_s(self._stage.process.pid),
            libvirtd_s=used_by(self._space.processes("libvirtd")),
            machine_s=machine_used_s(),
            libvirt_calls=metrics.get(_LIBVIRT_CALLS, 0.0),
            messages=metrics.get(_MESSAGES, 0.0) - metrics.get(_HEARTBEATS, 0.0),
            heartbeats=metrics.get(_HEARTBEATS, 0.0),
            merged_mib=metrics.get(_MERGED, 0.0) / MIB,
            started=self._family.started(self._stage.process.pid) if self._family else None,
        )

    async def _metrics(self) -> dict[str, float]:
        """The sum of each metric over its labels."""
        request = Request("GET", f"{self._stage.process.base_url}/metrics", {}, b"")
        answer = await self._stage.client.send(request, timeout_s=_REQUEST_S)
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def _timelines(self, ids: Sequence[str]) -> list[dict[str, float]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._folder / 'muster.db'}?mode=ro", uri=True)) as database:
            marks = ",".join("?" * len(ids))
            rows = database.execute(f"SELECT timeline FROM servers WHERE id IN ({marks})", list(ids))
            return [{step: at for step, at in msgspec.json.decode(text).items() if step in STEPS} for (text,) in rows]


def _arguments(process: int) -> list[str]:
    return Path(f"/proc/{process}/cmdline").read_text().rstrip("\0").split("\0")


@asynccontextmanager
async def a_real_cloud(
    folder: Path, space: Space, family: Family | None, *, room_for: int, boots: str = "auto", guest_mib: int = GUEST_MIB
) -> AsyncIterator[RealCloud]:
    """A fresh cloud whose host takes `room_for` guests of `guest_mib`; nothing is left of it at the end.

    Raises Transient.
    """
    space.enter()
    share = 2 + room_for // (os.cpu_count() or 1)
    more = ("--libvirt", "--boots", boots, "--cpu-overcommit", str(share), "--ram-overcommit", "4")
    launch = replace(cloud_launch(folder, sim_hosts=0, more=more), start_s=_START_S)
    try:
        async with on_stage(launch) as stage:
            cloud = RealCloud(stage, folder, space, family)
            await cloud.make_flavor(guest_mib)
            yield cloud
    finally:
        space.enter()
        await to_its_end(take_down(folder))
