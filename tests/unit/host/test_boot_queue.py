"""Who may boot now."""

import asyncio

import pytest

from muster.base import virtual_time
from muster.host.agenda import Agenda
from muster.host.boot import BootQueue
from muster.host.boot_settings import BootSettings
from muster.host.pressure import Pressure


def test_slots_follow_the_pressure_while_guests_boot_and_no_timer_runs_otherwise() -> None:
    async def main() -> None:
        pressure, woken = [Pressure()], []
        agenda = Agenda()
        settings = BootSettings(limit=2, limit_max=6, sample_s=2.0, hold_s=10.0, boot_limit_s=1000.0)
        boots = BootQueue(settings, agenda, pressure=lambda: pressure[0], wake=lambda: woken.append(1))
        for number in range(20):
            boots.offer(f"s{number}")
        taken = boots.take(lambda _: True)
        assert taken == ["s0", "s1"]
        await asyncio.sleep(5.0)
        assert boots.limit == 4
        assert woken
        pressure[0] = Pressure(cpu=1.0)
        await asyncio.sleep(5.0)
        assert boots.limit == 2, "halved once, then held"
        await asyncio.sleep(10.0)
        assert boots.limit == 1
        assert boots.take(lambda _: True) == []
        for number in range(20):
            boots.leave(f"s{number}")
        assert (boots.booting, boots.waiting) == (0, 0)
        await asyncio.sleep(3.0)
        assert not agenda._entries

    virtual_time.run(main())


def test_a_lease_ends_a_boot_once_whatever_the_case_of_its_mac() -> None:
    async def main() -> None:
        boots = BootQueue(BootSettings(limit=1), Agenda(), pressure=lambda: None, wake=lambda: None)
        boots.offer("a")
        boots.take(lambda _: True)
        boots.started("a", ["FA:16:3E:00:00:01"])
        assert boots.lease_seen("fa:16:3e:00:00:99") is None
        assert (boots.lease_seen("fa:16:3e:00:00:01"), boots.booting) == ("a", 0)
        assert boots.lease_seen("fa:16:3e:00:00:01") is None

    virtual_time.run(main())


def test_a_guest_that_gets_no_lease_boots_for_as_long_as_others_did() -> None:
    """It once held its slot for the whole limit: twenty of them on a network without DHCP took ten minutes to start."""

    async def main() -> None:
        boots = BootQueue(BootSettings(limit=1, boot_limit_s=60.0), Agenda(), pressure=lambda: None, wake=lambda: None)

        async def boots_for(name: str, *, gets_lease: bool, lease_after_s: float = 1_000.0) -> float:
            began_s = asyncio.get_running_loop().time()
            boots.offer(name)
            boots.take(lambda _: True)
            boots.started(name, [name], gets_lease=gets_lease)
            while boots.booting:
                await asyncio.sleep(0.1)
                if (took_s := asyncio.get_running_loop().time() - began_s) >= lease_after_s:
                    boots.lease_seen(name)
            return took_s

        assert await boots_for("first", gets_lease=False) == pytest.approx(15.0, abs=0.2)
        for number in range(40):
            await boots_for(f"s{number}", gets_lease=True, lease_after_s=4.0)
        assert await boots_for("second", gets_lease=False) == pytest.approx(4.0, abs=0.3)
        assert await boots_for("silent", gets_lease=True) == pytest.approx(60.0, abs=0.2)

    virtual_time.run(main())


def test_without_pressure_the_boots_that_end_lead_the_limit() -> None:
    async def main() -> None:
        settings = BootSettings(limit=2, limit_max=3, by_boot_times=True, boot_limit_s=100.0)
        boots = BootQueue(settings, Agenda(), pressure=lambda: None, wake=lambda: None)
        names = [f"s{number}" for number in range(40)]
        for name in names:
            boots.offer(name)
        limits, running = set(), []
        while boots.waiting or running:
            for name in boots.take(lambda _: True):
                boots.started(name, [name])
                running.append(name)
            await asyncio.sleep(10 / len(running))  # as fast as there are guests that boot
            boots.lease_seen(running.pop(0))
            limits.add(boots.limit)
        assert limits == {2, 3}
        assert boots.booting == 0

    virtual_time.run(main())
