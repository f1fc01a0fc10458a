"""Network cards of guests that run: attached after their network is ready, taken away before their port is."""

import asyncio

import msgspec

from muster.domain.reports import GuestState
from muster.domain.specs import Power, ServerSpec
from muster.host.hypervisor.sim import SimSettings

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
        await world.tell(server("b"))
        assert (await world.states())["b"].state is GuestState.RUNNING
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
