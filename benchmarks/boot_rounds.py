"""The rounds of the boot benchmark, Muster's and those by hand in turn, and what came of them."""

from collections.abc import Callable

import msgspec

from benchmarks.boot_cloud import MusterRound, RealCloud
from benchmarks.boot_hand import Hand
from benchmarks.boot_tables import Way
from benchmarks.boot_watch import memory_watched, used_by
from benchmarks.progress import Teller
from muster.bench.records import ServersResult


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many guests, how often. `tried`: numbers at a time that are tried by hand, with `tried_guests` guests each;
    `serial`: guests started one at a time."""

    guests: int
    rounds: int
    tried: tuple[int, ...]
    tried_guests: int
    serial: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured. `tried` are seconds per guest by how many were started at a time.

    `unthrottled` are all at once from the image as it came, `unpacked` from the unpacked one, which all others have.
    """

    sizes: Sizes
    muster_rounds: list[MusterRound]
    throttled: Way
    unthrottled: Way
    unpacked: Way
    serial: Way
    best: int
    tried: dict[int, float]

    @property
    def muster(self) -> Way:
        """Muster's rounds in the form of the others."""
        return Way(
            name="Muster",
            results=[one.result for one in self.muster_rounds],
            guests_s=[one.ready.guests_s - one.before.guests_s for one in self.muster_rounds],
            peak_mib=[one.peak_mib for one in self.muster_rounds],
        )


class Rounds:
    """Plays them all, on a cloud and by hand."""

    def __init__(self, cloud: RealCloud, hand: Hand, sizes: Sizes, teller: Teller) -> None:
        self._cloud = cloud
        self._hand = hand
        self._sizes = sizes
        self._teller = teller

    async def all(self) -> Found:
        """One at a time, the tries, then rounds in turn; one of them all at once."""
        sizes, mine = self._sizes, list[MusterRound]()
        n_tries = len(sizes.tried) if len(sizes.tried) > 1 else 0
        with self._teller.steps("rounds of guests", 3 + n_tries + 2 * sizes.rounds) as step:
            serial = await self._by_hand("by hand, one at a time", sizes.serial, 1, step)
            each_s = serial.total_s / sizes.serial
            tried = await self._try(step) if n_tries else {sizes.tried[0]: 0.0}
            best = min(tried, key=lambda at_once: tried[at_once])
            throttled: list[Way] = []
            unthrottled: list[Way] = []
            unpacked: list[Way] = []
            for number in range(sizes.rounds):
                self._teller.says(f"{sizes.guests} servers asked for at once")
                mine.append(await self._cloud.round(sizes.guests))
                step()
                throttled.append(await self._by_hand(f"by hand, {best} at a time", sizes.guests, best, step))
                if number == 0:
                    name = "by hand, all at once"
                    unthrottled.append(await self._by_hand(name, sizes.guests, sizes.guests, step, unpacked=False))
                    name += ", image unpacked before"
                    unpacked.append(await self._by_hand(name, sizes.guests, sizes.guests, step))
        name = f"one at a time, from {sizes.serial}"
        return Found(
            sizes=sizes,
            muster_rounds=mine,
            throttled=_joined(throttled),
            unthrottled=_joined(unthrottled),
            unpacked=_joined(unpacked),
            serial=msgspec.structs.replace(serial, name=name, extrapolated_s=each_s * sizes.guests),
            best=best,
            tried=tried,
        )

    async def _try(self, step: Callable[[], None]) -> dict[int, float]:
        """Seconds per guest with each number at a time, each with guests for whole turns only."""
        found = {}
        for at_once in self._sizes.tried:
            count = min(-(-self._sizes.tried_guests // at_once) * at_once, self._sizes.guests)
            way = await self._by_hand(f"trying {at_once} at a time by hand", count, at_once, step)
            found[at_once] = way.total_s / count
        return found

    async def _by_hand(
        self, name: str, count: int, at_once: int, step: Callable[[], None], *, unpacked: bool = True
    ) -> Way:
        self._teller.says(f"{name}: {count} guests")
        used: list[float] = []

        async def when_ready() -> None:
            used.append(used_by(self._hand.qemus()))

        async with memory_watched() as peak:
            result = await self._hand.round(count, at_once, when_ready, unpacked=unpacked)
        step()
        return Way(name=name, results=[result], guests_s=used, peak_mib=[peak.used_mib])


def _joined(ways: list[Way]) -> Way:
    results: list[ServersResult] = [result for way in ways for result in way.results]
    guests_s = [used for way in ways for used in way.guests_s]
    return Way(
        name=ways[0].name, results=results, guests_s=guests_s, peak_mib=[p for way in ways for p in way.peak_mib]
    )
