"""What an agent says and hears: hello, numbers, heartbeats, consoles, reports."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from host.agents import HOST, START_S, World, server
from muster.base import virtual_time
from muster.base.errors import Conflict, Transient
from muster.bus.memory import MemoryBus
from muster.domain.diagnostics import Diagnostics
from muster.domain.messages import (
    CONTROL_TOPIC,
    ConsoleReply,
    ConsoleRequest,
    Desired,
    DiagnosticsReply,
    DiagnosticsRequest,
    Heartbeat,
    Report,
    ReportEverything,
    Reports,
    decode,
    encode,
    host_topic,
)
from muster.domain.reports import GuestState
from muster.domain.specs import Power
from muster.host.agent import HostIdentity, HostParts
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import DEFAULT_CAPACITY, NullPlumbing, SimHypervisor


def test_it_says_hello_ever_less_often_until_everything_comes() -> None:
    world = World(hello_first_s=2.0, hello_max_s=30.0)

    async def story() -> None:
        await asyncio.sleep(100.0)
        hellos = await world.hellos()
        assert 4 <= len(hellos) <= 9
        assert (hellos[0].hostname, hellos[0].capacity) == ("compute-1", DEFAULT_CAPACITY)
        await world.tell(server("a"))
        assert not world.journal.calls, "nothing is done before the whole is known"
        await world.tell(server("a"), everything=True, nonce=hellos[0].nonce)
        assert world.journal.steps()[-1] == "start"
        await asyncio.sleep(100.0)
        assert not await world.hellos()

    world.run(story, told=False)


def test_tickets_are_kept_and_asked_for_anew() -> None:
    world = World(resync_delay_s=0.5)

    async def story() -> None:
        await world.tell(server("a"), tickets={"image": "first"})
        assert world.tickets.get("image") == "first"
        await asyncio.sleep(10.0)
        assert not await world.hellos()
        world.tickets.refused("image", "first")
        world.tickets.refused("image", "first")  # by another that held the same
        await asyncio.sleep(1.0)
        [hello] = await world.hellos()
        await world.tell(server("a"), everything=True, nonce=hello.nonce, tickets={"image": "second"})
        assert world.tickets.get("image") == "second"
        await asyncio.sleep(100.0)
        assert not await world.hellos()

    world.run(story)


def test_an_answer_to_an_earlier_agent_is_not_taken() -> None:
    world = World()

    async def story() -> None:
        (hello,) = await world.hellos()
        await world.tell(server("a", power=Power.STOPPED), everything=True, nonce=hello.nonce + 1)
        assert not world.journal.calls
        await world.tell(server("a", 2), everything=True, nonce=hello.nonce)
        assert "start" in world.journal.steps()

    world.run(story, told=False)


def test_a_gap_is_acted_on_and_asked_about_once() -> None:
    world = World(resync_delay_s=0.5, hello_first_s=5.0)

    async def story() -> None:
        world.seq = 3
        await world.tell(server("a"))
        await world.tell(server("b"))
        assert set(await world.states()) == {"a", "b"}
        await asyncio.sleep(3.0)
        assert len(await world.hellos()) == 1
        await world.tell(server("a"), server("b"), everything=True)
        await asyncio.sleep(60.0)
        assert not await world.hellos()

    world.run(story)


def test_a_mistake_with_one_message_makes_nobody_deaf_and_everything_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(resync_delay_s=0.5, hello_first_s=5.0)

    async def story() -> None:
        def fail(*_: object, **__: object) -> None:
            raise KeyError("a mistake")

        with monkeypatch.context() as patch:
            patch.setattr(world.agent.reconciler, "learn", fail)
            await world.tell(server("a"))
        await world.tell(server("b"))
        assert "b" in await world.states()
        await asyncio.sleep(3.0)
        assert await world.hellos()
        await world.tell(server("a"), server("b"), everything=True)
        await world.tell(server("a", 2), server("b"), everything=True)
        assert "a" in await world.states()

    world.run(story)


def test_events_of_guests_are_heard_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    calls: list[float] = []
    real = world.hypervisor.events

    def events() -> object:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) == 1:
            raise Transient("away")
        return real()

    monkeypatch.setattr(world.hypervisor, "events", events)

    async def story() -> None:
        await world.tell(server("a"))
        await asyncio.sleep(10.0)
        await world.hear()
        world.hypervisor.halt("a")
        await asyncio.sleep(5.0)
        assert (await world.states())["a"].state is GuestState.STOPPED

    world.run(story)
    assert len(calls) == 2


def test_what_was_only_late_is_not_asked_about() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("b"), from_seq=1, to_seq=2)
        await world.tell(server("a"), from_seq=0, to_seq=1)
        await asyncio.sleep(30.0)
        assert not await world.hellos()

    world.run(story)


def test_reports_are_numbered_without_gaps_and_above_those_of_earlier_lives() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        first = (await world.reports())[0]
        assert first.from_seq >= START_S * 1000
        await world.tell(server("b"))
        second = (await world.reports())[0]
        assert second.from_seq == first.to_seq
        assert second.to_seq == first.to_seq + 1
        await world.group.close()
        await asyncio.sleep(1.0)
        await world.start_agent()
        await world.tell(server("a"), server("b"), everything=True)
        third = (await world.reports())[0]
        assert third.everything
        assert third.from_seq > second.to_seq

    world.run(story)


def test_everything_is_reported_when_asked_with_what_is_pending() -> None:
    world = World()

    def away(step: str, ids: Sequence[str]) -> None:
        if step == "image" and "b" in ids:
            raise Transient("away", retry_after_s=1000.0)

    async def story() -> None:
        await world.tell(server("a"), server("gone", power=Power.ABSENT))
        world.journal.misfortune = away
        await world.tell(server("b"))
        assert "b" not in await world.states()
        await world.send(ReportEverything(host_id=HOST))
        (report,) = await world.reports()
        assert report.everything
        states = {item.server_id: item for item in report.servers}
        assert {id_: item.state for id_, item in states.items()} == {
            "a": GuestState.RUNNING,
            "b": GuestState.PENDING,
        }, "what is gone was told of before, and is forgotten"
        assert "started" in states["a"].stamps

    world.run(story)


def test_reports_wait_for_a_bus_that_is_away_and_go_together() -> None:
    world = World()
    publish = world.bus.publish

    async def away(messages: Sequence[tuple[str, bytes]]) -> None:
        if any(topic == CONTROL_TOPIC for topic, _ in messages) and asyncio.get_running_loop().time() < 10.0:
            raise Transient("away", retry_after_s=2.0)
        await publish(messages)

    async def story() -> None:
        world.bus.publish = away  # type: ignore[method-assign]
        for name in "abc":
            await world.tell(server(name))
        assert not await world.reports()
        await asyncio.sleep(15.0)
        reports = await world.reports()
        assert [len(report.servers) for report in reports] == [1, 2]
        assert reports[0].to_seq == reports[1].from_seq

    world.run(story)


@pytest.mark.parametrize(
    ("server_id", "n_lines", "output", "error"),
    [
        ("a", 1, "a login: ", None),
        ("a", 0, "", None),
        ("b", None, "", "no such guest on this host"),
    ],
)
def test_consoles(server_id: str, n_lines: int | None, output: str, error: str | None) -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        await world.send(
            ConsoleRequest(host_id=HOST, request_id="r", reply_to="replies", server_id=server_id, n_lines=n_lines)
        )
        body = (await (await world.bus.subscribe("replies")).next_batch())[0]
        assert decode(body) == ConsoleReply(request_id="r", output=output, error=error)

    world.run(story)


def test_a_console_that_breaks_is_answered_and_tells_no_details() -> None:
    world = World()

    async def broken(server_id: str, n_lines: int | None) -> str:
        raise RuntimeError("/secret/path")

    world.hypervisor.console_output = broken  # type: ignore[method-assign]

    async def story() -> None:
        await world.send(ConsoleRequest(host_id=HOST, request_id="r", reply_to="replies", server_id="a"))
        reply = decode((await (await world.bus.subscribe("replies")).next_batch())[0])
        assert isinstance(reply, ConsoleReply)
        assert reply.error == "The console could not be read"

    world.run(story)


@pytest.mark.parametrize(
    ("server_id", "reply"),
    [
        ("a", DiagnosticsReply(request_id="r", diagnostics=Diagnostics(hypervisor="sim"))),
        ("b", DiagnosticsReply(request_id="r", error="no such guest on this host")),
    ],
)
def test_diagnostics(server_id: str, reply: DiagnosticsReply) -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        await world.send(DiagnosticsRequest(host_id=HOST, request_id="r", reply_to="replies", server_id=server_id))
        assert decode((await (await world.bus.subscribe("replies")).next_batch())[0]) == reply

    world.run(story)


def test_a_simulated_console_says_so() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        assert "simulated" in await world.hypervisor.console_output("a", None)

    world.run(story)


def test_what_is_no_message_or_for_another_host_changes_nothing() -> None:
    world = World()

    async def story() -> None:
        stranger = Desired(host_id="other", from_seq=0, to_seq=1, servers=(server("a"),))
        await world.bus.publish([(host_topic(HOST), b"\xc1 nonsense"), (host_topic(HOST), encode(stranger))])
        await world.tell(server("b"))
        assert set(await world.states()) == {"b"}

    world.run(story)


def _parts(host_id: str) -> HostParts:
    return HostParts(
        identity=HostIdentity(host_id=host_id, hostname=host_id, hypervisor_type="sim", firewall=False),
        hypervisor=SimHypervisor(Random(1)),
        plumbing=NullPlumbing(),
    )


def test_all_hosts_of_a_process_share_a_heartbeat_and_a_timer() -> None:
    async def main() -> None:
        bus = MemoryBus()
        loop = asyncio.get_running_loop()
        group = HostGroup(bus, rng=Random(1), clock=lambda: START_S)
        await group.start([_parts(f"h{number}") for number in range(50)])
        await bus.publish(
            [
                (host_topic(f"h{number}"), encode(Desired(host_id=f"h{number}", from_seq=0, to_seq=7, everything=True)))
                for number in range(50)
            ]
        )
        await asyncio.sleep(1.0)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) == 1, "the agenda's"
        await asyncio.sleep(20.0)
        messages = [decode(body) for body in await (await bus.subscribe(CONTROL_TOPIC)).next_batch()]
        reports = [message for message in messages if isinstance(message, Report | Reports)]
        assert len(reports) == 1, "all that was observed in the same turn"
        assert isinstance(reports[0], Reports)
        assert {report.host_id for report in reports[0].reports} == {f"h{number}" for number in range(50)}
        beats = [message for message in messages if isinstance(message, Heartbeat)]
        assert len(beats) == 4
        assert {beat.host_id for beat in beats[-1].beats} == {f"h{number}" for number in range(50)}
        assert {beat.desired_seq for beat in beats[-1].beats} == {7}
        with pytest.raises(Conflict):
            await group.start([_parts("h1")])
        await group.stop("h1")
        await group.close()

    virtual_time.run(main())


def test_a_host_waits_for_a_hypervisor_that_is_away() -> None:
    async def main() -> None:
        parts = _parts("h")
        capacity, failures = parts.hypervisor.capacity, iter(range(3))

        async def away() -> object:
            if next(failures, None) is not None:
                raise Transient("libvirt is away", retry_after_s=5.0)
            return await capacity()

        parts.hypervisor.capacity = away  # type: ignore[method-assign, assignment]
        group = HostGroup(MemoryBus(), rng=Random(1))
        await group.start([parts])
        assert asyncio.get_running_loop().time() >= 15.0
        await group.close()

    virtual_time.run(main())


def test_events_that_break_off_are_taken_up_again() -> None:
    world = World()
    events, failures = world.hypervisor.events, iter(range(3))

    def broken() -> object:
        if next(failures, None) is not None:
            raise RuntimeError("a mistake")
        return events()

    async def story() -> None:
        world.hypervisor.events = broken  # type: ignore[method-assign, assignment]
        await world.group.close()
        await world.start_agent()
        await world.tell(server("a"), everything=True)
        await asyncio.sleep(5.0)
        await world.hear()
        world.hypervisor.halt("a")
        await asyncio.sleep(1.0)
        assert (await world.states())["a"].state is GuestState.STOPPED, "not only at the next look a minute later"

    world.run(story)


def test_a_bus_that_is_away_keeps_no_adapter_open(monkeypatch: pytest.MonkeyPatch) -> None:
    world, closed = World(), []

    async def story() -> None:
        async def away() -> None:
            raise Transient("the bus is away")

        async def close() -> None:
            closed.append("plumbing")

        monkeypatch.setattr(world.agent._subscription, "close", away)
        monkeypatch.setattr(world.plumbing, "close", close)
        with pytest.raises(Transient):
            await world.agent.close()
        assert closed == ["plumbing"]

    world.run(story)
