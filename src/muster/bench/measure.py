"""The measured part of a run: all servers up, then all down, with the machine's use sampled beside it.

Invariant: time zero is when the first server may be requested; preparation and clean-up are outside.
"""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path

import msgspec

from muster.base.tasks import alongside
from muster.bench.lifecycle import Lifecycle, Probes
from muster.bench.observer import Observer
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Polling, Sample, ServerRecord
from muster.bench.sampler import sample_into
from muster.bench.watch import Watcher
from muster.client.api import Api
from muster.client.listing import Listing
from muster.client.ping import Pinger
from muster.client.ssh import SshProbe, SshTarget

# Looks at the servers while all are up, before the first is deleted; in no figure. May raise to end the run.
Inspect = Callable[[Api, Sequence[ServerRecord]], Awaitable[None]]


class Plan(msgspec.Struct, frozen=True):
    """What is to be measured: the POST's body without a name, the names' prefix, the private key for logins."""

    options: ServersOptions
    template: dict[str, object]
    prefix: str
    key_file: Path | None
    inspect: Inspect | None = None


class Measured(msgspec.Struct, frozen=True):
    """What came out of it."""

    records: list[ServerRecord]
    samples: list[Sample]
    polling: Polling
    duration_s: float
    client_cpu_s: float


async def measure(api: Api, plan: Plan, observer: Observer) -> Measured:
    """Bring all servers up and, if `delete` is a phase, down again. Failures are in the records."""
    start_s, start_cpu_s = time.monotonic(), _cpu_s()

    def now() -> float:
        return time.monotonic() - start_s

    options = plan.options
    records = [ServerRecord(index=index, name=f"{plan.prefix}{index + 1:05d}") for index in range(options.count)]
    watcher = Watcher(Listing(api, plan.prefix), now)
    ssh = SshProbe(SshTarget(options.user, options.ssh_port, plan.key_file), now)
    samples: list[Sample] = []
    async with Pinger(now) as pinger, alongside(watcher.run(), sample_into(samples, now)):
        life = Lifecycle(api, options, plan.template, Probes(watcher, pinger, ssh), observer, now)
        await _bring_up(life, records, plan, observer)
        if plan.inspect is not None:
            await plan.inspect(api, records)
        if options.wants(Phase.DELETE) and not options.rolling:
            await _take_down(life, records, observer)
    return Measured(records, samples, watcher.polling(), now(), _cpu_s() - start_cpu_s)


async def _bring_up(life: Lifecycle, records: list[ServerRecord], plan: Plan, observer: Observer) -> None:
    for phase in plan.options.phases:
        if phase is not Phase.DELETE or plan.options.rolling:
            observer.expects(phase, len(records))
    observer.says("creating")
    if plan.options.batch:
        await life.live_as_batch(records, plan.prefix)
    else:
        await _all(life.live(record) for record in records)


async def _take_down(life: Lifecycle, records: list[ServerRecord], observer: Observer) -> None:
    there = [record for record in records if record.id is not None]
    observer.expects(Phase.DELETE, len(there))
    observer.says("deleting")
    await _all(life.remove(record) for record in there)


async def _all(works: Iterator[Coroutine[object, object, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def _cpu_s() -> float:
    """CPU seconds of this process and of the processes it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
