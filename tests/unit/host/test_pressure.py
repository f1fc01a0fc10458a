import asyncio
from pathlib import Path

import pytest

from muster.base import virtual_time
from muster.host.agenda import Agenda
from muster.host.boot import BootQueue
from muster.host.pressure import BootSettings, Pressure, PsiReader, next_limit

SETTINGS = BootSettings(limit=8, limit_min=2, limit_max=10)


@pytest.mark.parametrize(
    ("limit", "pressure", "waiting", "expected"),
    [
        (8, None, 5, 8),
        (8, Pressure(), 5, 9),
        (8, Pressure(), 0, 8),
        (10, Pressure(), 5, 10),
        (8, Pressure(cpu=0.9), 5, 4),
        (8, Pressure(io=0.9), 5, 4),
        (8, Pressure(memory=0.2), 0, 4),
        (3, Pressure(cpu=0.9), 5, 2),
    ],
)
def test_additive_increase_multiplicative_decrease(
    limit: int, pressure: Pressure | None, waiting: int, expected: int
) -> None:
    assert next_limit(SETTINGS, limit, pressure, waiting=waiting) == expected


def test_psi_is_the_share_of_time_between_two_reads(tmp_path: Path) -> None:
    def write(cpu: int, io: int, memory: int) -> None:
        for name, total in (("cpu", cpu), ("io", io), ("memory", memory)):
            text = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=7\n"
            (tmp_path / name).write_text(text)

    moments = iter((10.0, 12.0, 12.0))
    reader = PsiReader(tmp_path, lambda: next(moments))
    write(0, 0, 0)
    assert reader() is None
    write(1_000_000, 500_000, 0)
    assert reader() == Pressure(0.5, 0.25, 0.0)
    assert reader() is None


@pytest.mark.parametrize("text", ["", "full total=1", "some avg10=0", "some total=x"])
def test_a_kernel_that_does_not_tell_is_no_error(tmp_path: Path, text: str) -> None:
    assert PsiReader(tmp_path / "none")() is None
    for name in ("cpu", "io", "memory"):
        (tmp_path / name).write_text(text)
    assert PsiReader(tmp_path)() is None


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
