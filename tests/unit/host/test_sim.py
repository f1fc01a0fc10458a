import asyncio
from collections.abc import Sequence
from random import Random

from host.agents import server
from muster.base import virtual_time
from muster.domain.reports import GuestState
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.sim import SimHypervisor, SimSettings


async def _bring_up(sim: SimHypervisor, servers: Sequence[ServerSpec]) -> list[str]:
    """Prepare and start; returns who failed."""
    failed = [outcome.server_id for outcome in await sim.prepare(servers) if outcome.fault]
    rest = [spec for spec in servers if spec.id not in failed]
    return failed + [outcome.server_id for outcome in await sim.start(rest) if outcome.fault]


def test_it_keeps_the_promises_of_a_hypervisor() -> None:
    async def main() -> None:
        sim = SimHypervisor(Random(1))
        (outcome,) = await sim.start([server("a")])
        assert outcome.fault is not None, "nothing starts unprepared"
        assert not await _bring_up(sim, [server("a")])
        before = await sim.observe()
        assert not await _bring_up(sim, [server("a")])
        assert await sim.observe() == before
        await sim.start([server("a", 2, boot_nonce=1)])
        assert (await sim.observe())["a"].boot_nonce == 1
        await sim.stop(["a", "unknown"], hard=False)
        assert (await sim.observe())["a"].state is GuestState.STOPPED
        await sim.remove(["a", "unknown"])
        assert not await sim.observe()

    virtual_time.run(main())


def test_the_same_seed_gives_the_same_misfortunes() -> None:
    settings = SimSettings(prepare_fails=0.1, start_fails=0.2)
    servers = [server(f"s{number}") for number in range(300)]

    async def main() -> list[str]:
        return await _bring_up(SimHypervisor(Random(7), settings), servers)

    first = virtual_time.run(main())
    assert first == virtual_time.run(main())
    assert 40 < len(first) < 140


def test_boots_take_their_time_some_much_longer_and_some_guests_die() -> None:
    settings = SimSettings(boot_s=10.0, spread=0.1, slow=0.2, slow_factor=10.0, dies=0.3, dies_within_s=5.0)

    async def main() -> None:
        sim = SimHypervisor(Random(3), settings, asyncio.get_running_loop().time)
        leases, events = sim.leases(), sim.events()
        await _bring_up(sim, [server(f"s{number}") for number in range(100)])
        times = [(await anext(leases)).at_s for _ in range(100)]
        assert 5.0 < times[0] < 10.0 < times[60] < 20.0
        assert 5 < sum(at_s > 50.0 for at_s in times) < 40
        await asyncio.sleep(10.0)
        stopped = [g for g in (await sim.observe()).values() if g.state is GuestState.STOPPED]
        assert 10 < len(stopped) < 60
        assert {(await anext(events)).server_id for _ in stopped} == {guest.server_id for guest in stopped}

    virtual_time.run(main())


def test_a_running_guest_takes_its_time_to_stop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sim = SimHypervisor(Random(1), SimSettings(stop_s=7.0))
        await _bring_up(sim, [server("a"), server("b")])
        for lasts in (7.0, 0.0):
            start = loop.time()
            await sim.stop(["a", "b"], hard=False)
            assert loop.time() - start == lasts

    virtual_time.run(main())


def test_a_stopped_guest_asks_for_no_lease() -> None:
    async def main() -> None:
        sim = SimHypervisor(Random(1), SimSettings(boot_s=10.0))
        await _bring_up(sim, [server("a")])
        await sim.stop(["a"], hard=True)
        await asyncio.sleep(1000.0)
        assert not sim._leases._items

    virtual_time.run(main())
