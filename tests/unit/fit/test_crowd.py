"""How guests are asked, in virtual time, and what is made of clouds and hosts that do not answer."""

import asyncio
from typing import cast

import pytest

from muster.base.errors import Transient
from muster.base.percentile import percentile
from muster.base.virtual_time import run
from muster.cli import fit as command
from muster.client.listing import Listing
from muster.fit.crowd import _present, probe_regularly
from muster.fit.options import FitOptions
from muster.top.scrape import Scrape

OPTIONS = FitOptions(measure_s=30.0, every_s=1.0, probe_timeout_s=20.0)


async def asked(*took_s: float | None, else_s: float = 0.01) -> list[float | None]:
    """What is found of a guest whose first probes take so long (None: until the time-out), and the others `else_s`."""
    loop, found, answers = asyncio.get_running_loop(), list[float | None](), iter(took_s)

    async def probe() -> float | None:
        answer_s = next(answers, else_s)
        await asyncio.sleep(OPTIONS.probe_timeout_s if answer_s is None else answer_s)
        return answer_s

    await probe_regularly(probe, OPTIONS, 0.5, loop.time, found)
    return found


def test_a_guest_that_answers_at_once_is_asked_at_its_moments() -> None:
    assert run(asked()) == [0.01] * 30


def test_a_guest_that_stands_still_counts_as_often_as_any_other() -> None:
    """One such guest of ten was one probe among 270, and the 95th percentile was as if it had been well."""
    found = run(asked(25.25))
    assert found[:3] == [25.25, 24.25, 23.25]
    assert len(found) == 30
    assert percentile(sorted([*[0.01] * 9 * 30, *map(float, found)]), 95) > 1.0  # type: ignore[arg-type]


def test_moments_before_an_answer_that_never_came_had_none_either() -> None:
    assert run(asked(None)) == [None] * 20 + [0.01] * 10


def test_a_cloud_that_is_away_is_not_waited_for_without_end() -> None:
    class Away:
        async def present(self) -> set[str]:
            raise Transient("away")

    async def wait() -> None:
        await _present(cast(Listing, Away()), asyncio.get_running_loop().time, 60.0)

    with pytest.raises(Transient, match="away"):
        run(wait())


@pytest.mark.parametrize(("second", "mib"), [({}, None), ({("muster_ksm_saved_bytes", ()): 2.0**20}, 3.0)])
def test_what_merging_saves_is_told_only_if_all_hosts_tell_it(
    monkeypatch: pytest.MonkeyPatch, second: dict[tuple[str, tuple[()]], float], mib: float | None
) -> None:
    """The hosts that did not answer were left out of the sum."""
    looks = [Scrape("one:1", 0.0, {("muster_ksm_saved_bytes", ()): 2.0**21}), Scrape("two:1", 0.0, second)]
    if not second:
        looks[1] = Scrape("two:1", 0.0, error="timed out")
    monkeypatch.setattr(command, "scrape", lambda _: looks)
    assert command._savings(("one:1", "two:1"))() == mib
