"""What an agent holds of servers that are gone: nothing, and what was late or lost changes nothing about it."""

import asyncio
import gc
from types import BuiltinFunctionType, FunctionType, ModuleType

import msgspec

from host.agents import HOST, World, port, server
from muster.domain.messages import ReportEverything
from muster.domain.reports import GuestState
from muster.domain.specs import GroupMembers, NetworkSpec, Power, RuleSpec, SecurityGroupSpec, ServerSpec
from muster.host.ports import Guest

_ELSEWHERE = (ModuleType, type, FunctionType, BuiltinFunctionType, asyncio.AbstractEventLoop)


def mentions(root: object, prefix: str) -> list[str]:
    """All strings with this prefix that can be reached from an object, each as often as it is held."""
    seen: dict[int, object] = {}
    waiting, found = [root], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found += [one] * (prefix in one)
        elif id(one) not in seen and not isinstance(one, _ELSEWHERE):
            seen[id(one)] = one
            waiting += gc.get_referents(one)
    return found


def test_servers_that_came_and_went_leave_nothing() -> None:
    """Each deleted server once kept its record and its specs until the next snapshot, 5 KiB each."""
    world = World()

    async def story() -> None:
        for first in range(0, 2_000, 100):
            ids = [f"passing-{number}" for number in range(first, first + 100)]
            await world.tell(*(server(id_) for id_ in ids))
            assert len(mentions(world.agent, "passing")) > len(ids), "else the next line proves nothing"
            await world.tell(*(server(id_, 2, Power.ABSENT) for id_ in ids))
            states = await world.states()
            assert {state.state for state in states.values()} == {GuestState.ABSENT}
            assert states.keys() == set(ids)
            world.journal.calls.clear()
            world.heard.clear()
            del states
        assert mentions(world.agent, "passing") == []

    world.run(story)


def test_groups_that_nobody_is_in_any_more_are_forgotten() -> None:
    """A farm that makes a group for each job once had all of them on each host, for ever."""
    world = World()
    remote = SecurityGroupSpec(id="remote", generation=1)

    def group(id_: str) -> SecurityGroupSpec:
        rule = RuleSpec(id="r", direction="ingress", ethertype="IPv4", remote_group_id="remote")
        return SecurityGroupSpec(id=id_, generation=1, rules=(rule,))

    def of(name: str, **values: object) -> ServerSpec:
        ports = (msgspec.structs.replace(port(f"{name}-port"), security_group_ids=(f"{name}-group",)),)
        return server(name, ports=ports, **values)  # type: ignore[arg-type]

    async def story() -> None:
        await world.tell(of("stays"), groups=(group("stays-group"), remote))
        for number in range(50):
            name = f"passing-{number}"
            await world.tell(of(name), groups=(group(f"{name}-group"),))
            await world.tell(of(name, generation=2, power=Power.ABSENT))
        await asyncio.sleep(200.0)
        assert world.agent.reconciler.desired.groups.specs.keys() == {"stays-group", "remote"}
        await world.hear()
        await world.tell(of("passing-1", generation=3), groups=())
        await asyncio.sleep(5.0)
        assert await world.hellos(), "its group is not known, so everything is asked for"
        await world.tell(
            of("stays"), of("passing-1", generation=3), everything=True, groups=(group("passing-1-group"),)
        )
        assert (await world.states())["passing-1"].state is GuestState.RUNNING

    world.run(story)


def _net(name: str, members: tuple[int, str] | None = None) -> NetworkSpec:
    network = NetworkSpec(id=f"{name}-net", generation=1, segment_id=7)
    if members is None:
        return network
    return msgspec.structs.replace(network, member_generation=members[0], members=(members[1],))


def _on_net(name: str, **values: object) -> ServerSpec:
    ports = (msgspec.structs.replace(port(f"{name}-port"), network_id=f"{name}-net"),)
    return server(name, ports=ports, **values)  # type: ignore[arg-type]


def test_networks_without_a_port_here_are_forgotten_and_what_is_told_late_brings_none_back() -> None:
    """A cloud whose users make a network for each job once had all of them on each host, until the next snapshot."""
    world = World()
    world.host_ip = "192.0.2.1"

    async def story() -> None:
        await world.tell(_on_net("stays"), networks=(_net("stays", (1, "192.0.2.2")),))
        first = world.desired(_on_net("passing-0"), networks=(_net("passing-0", (1, "192.0.2.2")),))
        await world.send(first)
        for number in range(50):
            name = f"passing-{number}"
            await world.tell(_on_net(name), networks=(_net(name, (1, "192.0.2.2")),))
            await world.tell(_on_net(name, generation=2, power=Power.ABSENT), networks=(_net(name),))
        await asyncio.sleep(200.0)
        desired = world.agent.reconciler.desired
        assert desired.networks.specs.keys() == {"stays-net"}
        await world.hear()
        await world.send(msgspec.structs.replace(first, servers=()))
        assert desired.networks.specs.keys() == {"stays-net"}
        # The control plane has not heard yet that the last port went: it tells of another member.
        step = GroupMembers(id="passing-1-net", generation=2, joined=("192.0.2.3",))
        await world.tell(networks=(), groups=(), peers=(step,))
        await asyncio.sleep(50.0)
        assert not await world.hellos(), "nobody needs it"

    world.run(story)


def test_a_forgotten_network_that_is_needed_again_is_told_with_all_its_members() -> None:
    """The control plane takes the host for one of its members still, and tells of the server alone."""
    world = World()
    world.host_ip = "192.0.2.1"

    async def story() -> None:
        await world.tell(_on_net("a"), networks=(_net("a", (1, "192.0.2.2")),))
        await world.tell(_on_net("a", generation=2, power=Power.ABSENT), networks=(_net("a"),))
        await asyncio.sleep(200.0)
        assert not world.agent.reconciler.desired.networks.specs
        await world.hear()
        await world.tell(_on_net("a", generation=3), networks=(_net("a"),))
        await asyncio.sleep(5.0)
        assert await world.hellos(), "its other hosts are not known, so everything is asked for"
        assert not world.plumbing.linked
        told = _net("a", (4, "192.0.2.9"))
        await world.tell(_on_net("a", generation=3), everything=True, networks=(told,))
        assert (await world.states())["a"].state is GuestState.RUNNING
        assert world.plumbing.members == {"a-net": (4, frozenset({"192.0.2.9"}))}

    world.run(story)


def test_a_server_whose_networks_members_nobody_tells_does_not_wait_for_ever() -> None:
    world = World()
    world.host_ip = "192.0.2.1"

    async def story() -> None:
        await world.tell(_on_net("a"), networks=(_net("a"),))
        await asyncio.sleep(5.0)
        assert await world.hellos()
        await world.tell(_on_net("a"), everything=True, networks=(_net("a"),))
        assert (await world.states())["a"].state is GuestState.RUNNING

    world.run(story)


def test_what_is_late_does_not_bring_a_forgotten_server_back() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        await world.tell(server("a", 2, Power.ABSENT))
        assert not world.agent.reconciler.desired.servers.specs
        world.journal.calls.clear()
        await world.tell(server("a"), from_seq=0, to_seq=1)
        await world.tell(server("a"), from_seq=0, to_seq=1, everything=True)
        assert not world.journal.calls
        assert not mentions(world.agent.reconciler, "a-port")

    world.run(story)


def test_it_is_remembered_while_a_message_of_before_is_missing() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a", 2, Power.ABSENT), from_seq=1, to_seq=2)
        await world.tell(server("a"), from_seq=0, to_seq=1)
        assert not world.journal.calls, "the order to create it came last, but was older"
        assert not world.agent.reconciler.desired.servers.specs, "nothing is missing any more"
        assert not world.agent.reconciler._records

    world.run(story)


def test_a_removal_whose_report_was_lost_is_reported_again() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        await world.tell(server("a", 2, Power.ABSENT))
        assert (await world.states())["a"].state is GuestState.ABSENT
        await world.send(ReportEverything(host_id=HOST))
        assert "a" not in await world.states()
        await asyncio.sleep(1.0)
        assert len(await world.hellos()) == 1, "what should be is asked for: it has the server if the report was lost"
        await world.tell(server("b"))
        await world.tell(server("a", 2, Power.ABSENT), from_seq=0, to_seq=2, everything=True)
        await asyncio.sleep(10.0)
        assert await world.hellos(), "that snapshot was late: what it has is not taken up"
        await world.tell(server("a", 2, Power.ABSENT), server("b"), everything=True)
        assert (await world.states())["a"].generation == 2
        await asyncio.sleep(100.0)
        assert not await world.hellos()

    world.run(story)


def test_a_removal_that_still_waits_is_in_the_report_of_everything() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        await world.hear()
        reporter, courier = world.agent.reporter, world.agent.reporter._courier
        busy = courier._worker = asyncio.create_task(asyncio.sleep(1.0))
        await world.tell(server("a", 2, Power.ABSENT))
        reporter.put_everything()
        assert await busy is None
        courier._worker = None
        courier.wake(reporter)
        (report,) = await world.reports()
        assert report.everything
        assert [(one.server_id, one.state) for one in report.servers] == [("a", GuestState.ABSENT)]

    world.run(story)


def test_a_look_that_began_before_does_not_make_it_a_stranger() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a"))
        reconciler = world.agent.reconciler
        take = reconciler._begin_look()
        seen = {"a": Guest(server_id="a", state=GuestState.RUNNING, boot_nonce=0, disk_nonce=0)}
        await world.tell(server("a", 2, Power.ABSENT))
        take(seen)
        assert not reconciler._records
        reconciler._begin_look()(seen)
        assert reconciler._records["a"].stray, "a guest that is still there is one that nobody told of"

    world.run(story)
