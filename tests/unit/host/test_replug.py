"""Network cards of guests that run: attached after their network is ready, taken away before their port is."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from muster.domain.reports import Fault, GuestState
from muster.domain.specs import Power, ServerSpec
from muster.host.hypervisor.sim import SimSettings
from muster.host.ports import Outcome

from .agents import World, port, server

BOTH = (port("a-port"), port("b-port"))


def cards_in_use(world: World, *server_ids: str) -> None:
    """From now on the world notes a tap that is removed under a guest."""
    world.plumbing.in_use = lambda: set().union(*filter(None, map(world.hypervisor.cards, server_ids)))


def test_a_card_comes_after_its_network_and_goes_before_it() -> None:
    world = World()
    cards_in_use(world, "a")

    async def story() -> None:
        ready: list[bool] = []
        world.hypervisor.before_replug = lambda spec: ready.append(world.plumbing.ready(spec))
        await world.tell(server("a"))
        await world.tell(server("a", 2, ports=BOTH))
        assert world.hypervisor.cards("a") == {"a-port", "b-port"}
        assert (await world.states())["a"].generation == 2
        await world.tell(server("a", 3, ports=BOTH[1:]))
        assert world.hypervisor.cards("a") == {"b-port"}
        assert world.plumbing.linked == world.plumbing.ruled == world.plumbing.served == {"b-port"}
        assert ready == [True, True]
        assert world.plumbing.torn == []

    world.run(story)


def test_a_guest_that_keeps_its_card_keeps_its_tap_and_holds_up_nobody() -> None:
    world = World(SimSettings(keeps_card=1.0))
    cards_in_use(world, "a")

    async def story() -> None:
        await world.tell(server("a", ports=BOTH))
        await world.hear()
        await world.tell(server("a", 2, ports=BOTH[:1]))
        await world.tell(server("c"))
        assert (await world.states())["c"].state is GuestState.RUNNING
        await asyncio.sleep(100.0)
        assert "a" not in await world.states(), "it has not become as asked"
        assert "b-port" in world.plumbing.linked
        # Its card goes with the guest, and then the port.
        await world.tell(server("a", 3, Power.STOPPED, ports=BOTH[:1]))
        assert (await world.states())["a"].state is GuestState.STOPPED
        assert "b-port" not in world.plumbing.linked
        await world.tell(server("a", 4, ports=BOTH[:1]))
        assert world.hypervisor.cards("a") == {"a-port"}
        assert world.plumbing.torn == []

    world.run(story)


def test_tries_for_a_card_become_rare() -> None:
    world = World(SimSettings(keeps_card=1.0))

    async def story() -> None:
        await world.tell(server("a", ports=BOTH))
        await world.tell(server("a", 2, ports=BOTH[:1]))
        world.journal.calls.clear()
        await asyncio.sleep(300.0)
        assert 8 <= world.journal.steps().count("replug") <= 15
        assert "links" not in world.journal.steps()

    world.run(story)


def test_a_stopped_server_starts_with_its_new_ports() -> None:
    world = World()

    async def story() -> None:
        await world.tell(server("a", power=Power.STOPPED))
        await world.tell(server("a", 2, Power.STOPPED, ports=BOTH[1:]))
        assert "replug" not in world.journal.steps()
        assert world.plumbing.linked == {"b-port"}
        await world.tell(server("a", 3, ports=BOTH[1:]))
        assert world.hypervisor.cards("a") == {"b-port"}
        assert "replug" not in world.journal.steps()

    world.run(story)


def test_an_agent_that_died_in_the_middle_is_followed_by_one_that_ends_it() -> None:
    """What changed while no agent ran is found by comparing, and a tap that is in use outlives the first sweep."""
    world = World()
    cards_in_use(world, "a")

    async def story() -> None:
        await world.tell(server("a", ports=BOTH))
        await world.group.close()
        world.seq += 1
        await world.start_agent()
        await world.tell(server("a", 2, ports=(port("c-port"),)), everything=True)
        assert world.hypervisor.cards("a") == {"c-port"}
        await asyncio.sleep(130.0)
        assert world.plumbing.linked == {"c-port"}
        assert world.plumbing.torn == []
        world.journal.calls.clear()
        await asyncio.sleep(130.0)
        assert set(world.journal.steps()) == {"observe"}, "nothing is done for nothing"

    world.run(story)


def test_a_guest_that_ends_while_it_is_plumbed_is_noticed() -> None:
    world = World()
    links = world.plumbing.links

    async def slow(*what: object) -> None:
        await asyncio.sleep(1.0)
        await links(*what)  # type: ignore[arg-type]

    async def story() -> None:
        await world.tell(server("a"))
        await world.hear()
        world.plumbing.links = slow  # type: ignore[method-assign, assignment]
        await world.tell(server("a", 2, ports=BOTH))
        world.hypervisor.halt("a")
        await asyncio.sleep(5.0)
        assert (await world.states())["a"].state is GuestState.STOPPED

    world.run(story)


def test_only_ports_that_differ_are_touched() -> None:
    """A change of a port's rules is no change of the guest's cards."""
    world = World()
    changed: ServerSpec = server("a", 2, ports=(msgspec.structs.replace(BOTH[0], admin_state_up=False),))

    async def story() -> None:
        await world.tell(server("a"))
        world.journal.calls.clear()
        await world.tell(changed)
        assert world.journal.steps() == ["links", "firewall", "dhcp"]

    world.run(story)


@pytest.mark.parametrize("keeps_s", [0.0, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED, Power.ABSENT])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_port_that_moves_to_another_server_of_the_host_works_there(
    keeps_s: float, power: Power, is_new: bool
) -> None:
    """What was left to do for its former server once took it from the new one, for good."""
    world = World()
    cards_in_use(world, "a", "b")
    replug = world.hypervisor.replug

    def busy(spec: ServerSpec) -> frozenset[str]:
        """Its ports whose taps the other guest has open."""
        others = world.hypervisor.cards({"a": "b", "b": "a"}[spec.id]) or frozenset()
        return others & {port.id for port in spec.ports}

    async def slow(servers: Sequence[ServerSpec]) -> list[Outcome]:
        if any(spec.id == "a" for spec in servers):
            await asyncio.sleep(keeps_s)
        refused = [Outcome(spec.id, Fault(500, "the tap is busy")) for spec in servers if busy(spec)]
        return [*refused, *await replug([spec for spec in servers if not busy(spec)])]

    def check(spec: ServerSpec) -> None:
        assert not busy(spec)
        assert world.plumbing.ready(spec)

    async def story() -> None:
        await world.tell(server("a", ports=BOTH), *([] if is_new else [server("b", ports=())]))
        world.hypervisor.replug = slow  # type: ignore[method-assign]
        world.hypervisor.before_start = check
        await world.tell(server("a", 2, power, ports=() if power is Power.ABSENT else BOTH[:1]))
        await world.tell(server("b", 2, ports=BOTH[1:]))
        await asyncio.sleep(100.0)
        assert world.hypervisor.cards("b") == {"b-port"}
        assert (await world.states())["b"].state is GuestState.RUNNING
        assert "b-port" in world.plumbing.linked & world.plumbing.ruled & world.plumbing.served
        assert world.plumbing.torn == []
        await world.tell(server("b", 3, Power.ABSENT))
        assert "b-port" not in world.plumbing.linked | world.plumbing.ruled | world.plumbing.served

    world.run(story)


def test_two_servers_of_a_host_that_swap_their_ports_have_them_in_the_end() -> None:
    world = World()
    cards_in_use(world, "a", "b")

    async def story() -> None:
        await world.tell(server("a", ports=BOTH[:1]), server("b", ports=BOTH[1:]))
        await world.tell(server("a", 2, ports=BOTH[1:]), server("b", 2, ports=BOTH[:1]))
        await asyncio.sleep(100.0)
        assert (world.hypervisor.cards("a"), world.hypervisor.cards("b")) == ({"b-port"}, {"a-port"})
        both = {"a-port", "b-port"}
        assert world.plumbing.linked == world.plumbing.ruled == world.plumbing.served == both
        assert world.plumbing.torn == []

    world.run(story)
