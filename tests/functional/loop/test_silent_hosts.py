"""A host that is not heard of: nothing new is sent there, what it has stays as it was last seen, and what was asked of
it meanwhile is done when it comes back. A server that is deleted meanwhile ends at once, its guest later."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import delete, update

from muster.base.clock import Clock, system_clock
from muster.bus.memory import MemoryBus
from muster.domain.hypervisors import HypervisorQuery
from muster.domain.messages import CONTROL_TOPIC, Desired, Report, encode
from muster.domain.reports import GuestState, ServerReport
from muster.domain.servers import Verb
from muster.domain.specs import Power
from muster.host.agent import AgentSettings, HostIdentity, HostParts
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import SimHypervisor, SimSettings
from muster.store.hosts import hosts
from muster.store.servers import servers
from muster.store.tables import metadata
from tests.audit.ledger import audit, restless
from tests.host_adapters import MemoryPlumbing

from .loop import CAPACITY, Ear, Loop, a_loop, beside


async def silent_for_long(loop: Loop, host_id: str, since: float = 1.0) -> None:
    async with loop.database.write() as connection:
        await connection.execute(update(hosts).where(hosts.c.id == host_id).values(last_seen_at=since))


async def says(loop: Loop, host: Ear, number: int, server_id: str, generation: int, state: GuestState) -> None:
    report = ServerReport(server_id=server_id, generation=generation, state=state)
    await loop.reports.take([Report(host_id=host.id, from_seq=number - 1, to_seq=number, servers=(report,))])


async def test_a_host_that_is_silent_and_comes_back(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        host, other = Ear(loop, "a", firewall=False), Ear(loop, "b", firewall=False)
        for ear in (host, other):
            await ear.say_hello()
        runs, doomed = await loop.create("a"), await loop.create("a")
        for number, server in enumerate((runs, doomed), start=1):
            await says(loop, host, number, server.id, server.generation, GuestState.RUNNING)
        await host.hear()
        await silent_for_long(loop, host.id)

        # Its servers are shown as they were, new ones go elsewhere or nowhere.
        assert {server.status for server in await loop.servers()} == {"ACTIVE"}
        refused = await loop.create("a")
        assert (refused.status, refused.host_id) == ("ERROR", None)
        assert (await loop.create()).host_id == other.id
        shown = await loop.compute.hypervisors.named("a")
        assert shown is not None
        assert not loop.compute.hypervisors.is_up(shown)

        # What is asked waits, but a deletion: that is all over at once.
        await loop.ask(runs.id, Verb.STOP)
        await loop.ask(doomed.id, Verb.DELETE)
        await host.hear()  # nobody is there
        tasks = {server.id: server.task_state for server in await loop.servers()}
        assert tasks[runs.id] == "powering-off"
        assert doomed.id not in tasks

        await host.say_hello()
        [everything] = [message for message in await host.hear() if isinstance(message, Desired)]
        assert everything.everything
        wanted = {spec.id: spec for spec in everything.servers}
        assert {id_: spec.power for id_, spec in wanted.items()} == {runs.id: Power.STOPPED}
        await says(loop, host, 3, runs.id, wanted[runs.id].generation, GuestState.STOPPED)
        await says(loop, host, 4, doomed.id, doomed.generation, GuestState.RUNNING)  # as it had seen it before
        after = {server.id: server.status for server in await loop.servers()}
        assert after[runs.id] == "SHUTOFF"
        assert doomed.id not in after
        assert (await loop.create("a")).host_id == host.id


async def free(loop: Loop, tmp_path: Path) -> None:
    """Nothing is left of the servers that there were, wherever it is counted."""
    while await loop.dispatcher.publish():
        pass
    assert await loop.servers() == []
    assert audit(tmp_path / "loop.db") + restless(tmp_path / "loop.db") == []
    [host] = [one for one in await loop.compute.hypervisors.page(HypervisorQuery()) if one.hostname == "a"]
    assert (host.servers_used, host.ram_used_mib, host.vcpus_used) == (0, 0, 0)


@pytest.mark.parametrize("state", ["BUILD", "ACTIVE"])
async def test_a_server_on_a_host_that_is_down_is_deleted_at_once(tmp_path: Path, state: str) -> None:
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=True)
        await host.say_hello()
        server = await loop.create("a")
        if state == "ACTIVE":
            await says(loop, host, 1, server.id, server.generation, GuestState.RUNNING)
        await silent_for_long(loop, host.id)
        await loop.ask(server.id, Verb.DELETE)
        await free(loop, tmp_path)


async def test_a_server_that_was_being_deleted_when_its_host_went_down_ends(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        first, second = await loop.create("a"), await loop.create("a")
        for server in (first, second):
            await loop.ask(server.id, Verb.DELETE)
        await loop.compute.orders.finish_left()
        assert {server.task_state for server in await loop.servers()} == {"deleting"}, "its host is there"
        await silent_for_long(loop, host.id)
        await loop.ask(first.id, Verb.DELETE)  # by whoever asks again
        assert [server.id for server in await loop.servers()] == [second.id]
        await loop.compute.orders.finish_left()  # and by itself
        await free(loop, tmp_path)
        await loop.compute.orders.finish_left()
        [known] = await loop.compute.hypervisors.page(HypervisorQuery())
        await loop.compute.hypervisors.delete(known)  # a host without servers may be forgotten


class Away(MemoryBus):
    """So long ago its absence began."""

    ago_s = 0.0

    def away_s(self, since_s: float) -> float:
        return self.ago_s


async def test_servers_that_are_made_while_nobody_can_be_heard_wait_for_hosts_that_were_there(tmp_path: Path) -> None:
    """All of them ended in ERROR once RabbitMQ was away for a minute, and for as long as hosts took to come back."""
    async with a_loop(tmp_path, bus := Away()) as loop:
        there, gone = Ear(loop, "a", firewall=False), Ear(loop, "b", firewall=False)
        for ear in (there, gone):
            await ear.say_hello()
        now = system_clock()
        await silent_for_long(loop, there.id, now - 900.0)
        await silent_for_long(loop, gone.id, now - 1_000.0)
        assert (await loop.create()).status == "ERROR"
        bus.ago_s = 880.0
        server = await loop.create()
        assert (server.status, server.host_id) == ("BUILD", there.id)
        assert (await loop.create("b")).status == "ERROR", "it was silent for a minute before"
        [*_, told] = await there.hear()
        assert isinstance(told, Desired)
        assert [spec.id for spec in told.servers] == [server.id]


async def test_a_server_that_is_deleted_while_nobody_can_be_heard_keeps_its_address(tmp_path: Path) -> None:
    """Its guest goes on with it. It ended as if its host were down, and another server could get the address."""
    async with a_loop(tmp_path, bus := Away()) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        server = await loop.create()
        await says(loop, host, 1, server.id, server.generation, GuestState.RUNNING)
        await silent_for_long(loop, host.id, system_clock() - 900.0)
        bus.ago_s = 880.0
        await loop.ask(server.id, Verb.DELETE)
        await loop.compute.orders.finish_left()
        [deleting] = await loop.servers()
        assert deleting.task_state == "deleting"
        bus.ago_s = 0.0
        await loop.compute.orders.finish_left()
        assert await loop.servers() == []


class Cut(MemoryBus):
    """A bus from which hosts may be cut off: nothing comes from them (`mute`), or goes to them (`deaf`)."""

    mute = deaf = False

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        lost = {True: self.mute, False: self.deaf}
        await super().publish([one for one in messages if not lost[one[0] == CONTROL_TOPIC]])


@asynccontextmanager
async def agents(loop: Loop, hypervisor: SimHypervisor, clock: Clock = system_clock) -> AsyncIterator[HostGroup]:
    times = AgentSettings(heartbeat_every_s=0.2, resync_delay_s=0.1, hello_first_s=0.2, stray_grace_s=0.3)
    identity = HostIdentity(host_id="a", hostname="a", hypervisor_type="sim", availability_zone="a", firewall=False)
    group = HostGroup(loop.bus, settings=times, clock=clock, rng=Random(1))
    try:
        await group.start([HostParts(identity=identity, hypervisor=hypervisor, plumbing=MemoryPlumbing())])
        yield group
    finally:
        await group.close()


async def all_read_is_written(loop: Loop) -> None:
    """A host that says hello now is heard after all that came before."""
    last = Ear(loop, "last", firewall=False)
    await MemoryBus.publish(loop.bus, [(CONTROL_TOPIC, encode(last.hello()))])

    async def there() -> bool:
        return last.id in await loop.host_ids()

    await loop.until(there, "all that was read is written")


@pytest.mark.parametrize("how", ["cut off", "mute", "its agent died"])
async def test_a_host_that_comes_back_removes_what_was_deleted_meanwhile(tmp_path: Path, how: str) -> None:
    bus = Cut()
    async with a_loop(tmp_path, bus) as loop:
        hypervisor = SimHypervisor(Random(1), SimSettings(capacity=CAPACITY, boot_s=0.01))
        async with beside(loop.dispatcher.run, loop.reports.run):
            async with agents(loop, hypervisor):
                await loop.until(loop.host_ids, "the host is there")
                kept, doomed = await loop.create("a"), await loop.create("a")

                async def all_active() -> bool:
                    return {server.status for server in await loop.servers()} == {"ACTIVE"}

                async def told() -> bool:
                    return not restless(tmp_path / "loop.db")

                async def removed() -> bool:
                    return hypervisor._guests.keys() == {kept.id}

                await loop.until(all_active, "the guests run")
                bus.mute, bus.deaf = True, how != "mute"
                loop.bus._topics[CONTROL_TOPIC].messages.clear()
                await all_read_is_written(loop)
                await silent_for_long(loop, "a")
                await loop.ask(doomed.id, Verb.DELETE)
                assert [server.id for server in await loop.servers()] == [kept.id]
                if how == "mute":  # it hears, and may have removed it by now
                    await loop.until(told, "the host was sent what it hears nothing in")
                else:
                    assert hypervisor._guests.keys() == {kept.id, doomed.id}
                bus.mute = bus.deaf = how == "its agent died"
                if not bus.mute:
                    await loop.until(removed, "the guest is removed")
            if bus.mute:
                bus.mute = bus.deaf = False
                async with agents(loop, hypervisor):
                    await loop.until(removed, "the guest is removed")
            await loop.until(told, "who publishes is done with what the host has heard")
            assert await all_active()
            assert audit(tmp_path / "loop.db") == []


async def test_a_database_that_was_set_back_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    """Whether the agent has gone on meanwhile or was restarted, and knows nothing of before."""
    bus = Cut()
    async with a_loop(tmp_path, bus) as loop:
        hypervisor = SimHypervisor(Random(1), SimSettings(capacity=CAPACITY, boot_s=0.01))

        async def all_active() -> bool:
            return {server.status for server in await loop.servers()} == {"ACTIVE"}

        async def set_back(server_id: str) -> None:
            """Nothing is left of the server, and the host's number is that of before."""
            async with loop.database.write() as connection:
                for table in reversed(metadata.sorted_tables):
                    if "server_id" in table.c:
                        await connection.execute(delete(table).where(table.c.server_id == server_id))
                await connection.execute(delete(servers).where(servers.c.id == server_id))
                await connection.execute(update(hosts).values(desired_seq=hosts.c.desired_seq - 1))

        async def seen(run: set[str], kept: set[str]) -> bool:
            return hypervisor._guests.keys() == run and hypervisor.kept == kept

        async with beside(loop.dispatcher.run, loop.reports.run):
            async with agents(loop, hypervisor):
                await loop.until(loop.host_ids, "the host is there")
                stays, first, second = [await loop.create("a") for _ in range(3)]
                await loop.until(all_active, "the guests run")
                await set_back(first.id)
                await loop.until(lambda: seen({stays.id, second.id}, {first.id}), "the first is kept")
                await loop.until(all_active, "the others run")
            await set_back(second.id)
            async with agents(loop, hypervisor):
                await loop.until(lambda: seen({stays.id}, {first.id, second.id}), "the second is kept")


async def test_a_host_whose_clock_was_set_back_is_heard(tmp_path: Path) -> None:
    """Its reports were once taken for late ones, and nothing that it did was ever noticed."""
    async with a_loop(tmp_path) as loop:
        hypervisor = SimHypervisor(Random(1), SimSettings(capacity=CAPACITY))

        async def all_active() -> bool:
            return {server.status for server in await loop.servers()} == {"ACTIVE"}

        async with beside(loop.dispatcher.run, loop.reports.run):
            async with agents(loop, hypervisor):
                await loop.until(loop.host_ids, "the host is there")
                first = await loop.create("a")
                await loop.until(all_active, "the guest runs")
            async with agents(loop, hypervisor, lambda: system_clock() - 86_400.0):
                second = await loop.create("a")
                await loop.until(all_active, "both guests run")
                await loop.ask(first.id, Verb.DELETE)

                async def removed() -> bool:
                    return [server.id for server in await loop.servers()] == [second.id]

                await loop.until(removed, "the first is gone")


@pytest.mark.parametrize("forgotten", [1, 3])
async def test_a_reboot_is_one_also_after_the_database_was_set_back(tmp_path: Path, forgotten: int) -> None:
    """It counted on from where the database had been: to the host it was done long ago, and was shown as done."""
    async with a_loop(tmp_path) as loop:
        hypervisor = SimHypervisor(Random(1), SimSettings(capacity=CAPACITY))

        async def boots() -> int:
            """With which request the guest was last booted; -1 while that is not all that was asked for."""
            [server] = await loop.servers()
            guest = hypervisor._guests.get(server.id)
            is_done = server.status == "ACTIVE" and guest is not None and guest.boot_nonce == server.boot_nonce
            return guest.boot_nonce if is_done and guest is not None else -1

        async def booted_after(number: int) -> bool:
            return await boots() > number

        async with beside(loop.dispatcher.run, loop.reports.run), agents(loop, hypervisor):
            await loop.until(loop.host_ids, "the host is there")
            server = await loop.create("a")
            await loop.until(lambda: booted_after(-1), "the guest runs")
            [before] = await loop.servers()
            for _ in range(forgotten):
                number = await boots()
                await loop.ask(server.id, Verb.REBOOT, hard=True)
                await loop.until(partial(booted_after, number), "the guest was rebooted")
            number = await boots()
            loop.batch.clock = lambda: system_clock() + 30.0
            async with loop.database.write() as connection:
                old = {"generation": before.generation, "boot_nonce": before.boot_nonce}
                await connection.execute(update(servers).values(**old))
                await connection.execute(update(hosts).values(desired_seq=hosts.c.desired_seq - forgotten - 1))
            await loop.ask(server.id, Verb.REBOOT, hard=True)  # nobody has noticed yet
            await loop.until(partial(booted_after, number), "the guest was rebooted again")


@pytest.mark.parametrize("what", ["created", "rebooted"])
async def test_what_is_asked_first_of_a_database_that_was_set_back_is_done(tmp_path: Path, what: str) -> None:
    """It has given out again the number that the host had reached, so no heartbeat shows it: what was told under that
    was taken for known, and the server stayed in BUILD, or REBOOT, for ever."""
    bus = Cut()
    async with a_loop(tmp_path, bus) as loop:
        hypervisor = SimHypervisor(Random(1), SimSettings(capacity=CAPACITY))

        async def all_active() -> bool:
            return {server.status for server in await loop.servers()} == {"ACTIVE"}

        async with beside(loop.dispatcher.run, loop.reports.run), agents(loop, hypervisor):
            await loop.until(loop.host_ids, "the host is there")
            server = await loop.create("a")
            await loop.until(all_active, "the guest runs")
            [before] = await loop.servers()
            await loop.ask(server.id, Verb.REBOOT, hard=True)
            await loop.until(all_active, "it was rebooted")
            loop.batch.clock = lambda: system_clock() + 30.0
            old = {"generation": before.generation, "boot_nonce": before.boot_nonce}
            bus.mute = True  # between two heartbeats
            await all_read_is_written(loop)
            async with loop.database.write() as connection:
                await connection.execute(update(servers).values(**old))
                lower = update(hosts).where(hosts.c.id == "a").values(desired_seq=hosts.c.desired_seq - 1)
                await connection.execute(lower)
            if what == "created":
                await loop.create("a")
            else:
                await loop.ask(server.id, Verb.REBOOT, hard=True)
            bus.mute = False
            await loop.until(all_active, "it is done")


@pytest.mark.parametrize(("verb", "nonce"), [(Verb.REBOOT, "boot_nonce"), (Verb.REBUILD, "disk_nonce")])
async def test_what_a_host_says_that_knows_a_later_database_is_no_answer(
    tmp_path: Path, verb: Verb, nonce: str
) -> None:
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        server = await loop.create("a")
        await says(loop, host, 1, server.id, server.generation, GuestState.RUNNING)
        await loop.ask(server.id, verb, hard=True)
        await says(loop, host, 2, server.id, 1_000, GuestState.RUNNING)
        [asked] = await loop.servers()
        assert asked.task_state in ("rebooting_hard", "rebuilding")
        done = ServerReport(
            server_id=server.id, generation=asked.generation, state=GuestState.RUNNING, **{nonce: getattr(asked, nonce)}
        )
        await loop.reports.take([Report(host_id=host.id, from_seq=2, to_seq=3, servers=(done,))])
        [done_with] = await loop.servers()
        assert (done_with.status, done_with.task_state) == ("ACTIVE", None)
