"""Whatever guests ask for, take and give back, what is left of a host's memory never falls below the floor.

Each guest takes what it takes, all that it was promised at most, from its start until it is settled; then it keeps it.
"""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.base import virtual_time
from muster.host.agenda import Agenda
from muster.host.boot import BootQueue
from muster.host.boot_settings import BootSettings
from muster.host.memory import Memory
from muster.host.memory_guard import Guarding, GuardSettings, MemoryGuard

TOTAL_MIB, FLOOR_MIB = 4_000, 200
SETTINGS = GuardSettings(floor_mib=FLOOR_MIB, overhead_mib=50, settle_s=10.0)

Asked = tuple[int, float, int, int, int, int | None]

guests = st.lists(
    st.tuples(
        st.sampled_from((256, 512, 1_024)),  # its memory
        st.sampled_from((0.1, 0.9, 1.0)),  # the share of it that it touches
        st.integers(0, 8),  # when it is asked for
        st.integers(1, 6),  # how long its boot takes
        st.sampled_from((1, 9)),  # how long after that it has touched all
        st.one_of(st.none(), st.none(), st.integers(5, 60)),  # for how long it lives, if not for ever
    ),
    min_size=8,
    max_size=25,
)


class Host:
    """A host, its guests by number, and what they have touched."""

    def __init__(self, asked: list[Asked]) -> None:
        self.asked = asked
        self.began_s: dict[int, float] = {}
        self.gone: set[int] = set()
        self.lowest_mib = TOTAL_MIB
        self.loop = asyncio.get_running_loop()
        agenda = Agenda()
        guard = MemoryGuard(
            Guarding(read=self.read, host="property", settings=SETTINGS),
            agenda,
            needs_mib=lambda server_id: asked[int(server_id)][0],
            waiting=lambda: self.boots.waiting,
            wake=self.pump,
        )
        boots = BootSettings(limit=8, limit_max=8, boot_limit_s=60.0)
        self.boots = BootQueue(boots, agenda, pressure=lambda: None, wake=self.pump, gate=guard)

    def read(self) -> Memory:
        return Memory(total_mib=TOTAL_MIB, available_mib=int(self.left_mib()))

    def left_mib(self) -> float:
        return TOTAL_MIB - sum(self.touched_mib(number) for number in self.began_s if number not in self.gone)

    def touched_mib(self, number: int) -> float:
        ram_mib, share, _, boot_s, more_s, _ = self.asked[number]
        progress = min(1.0, (self.loop.time() - self.began_s[number]) / (boot_s + more_s))
        return (ram_mib * share + SETTINGS.overhead_mib) * progress

    def pump(self) -> None:
        for server_id in self.boots.take(lambda _: True):
            self.began_s[int(server_id)] = self.loop.time()
            self.boots.started(server_id, [])
            self.loop.call_later(self.asked[int(server_id)][3], self.boots.end, server_id)

    def leave(self, number: int) -> None:
        self.gone.add(number)
        self.boots.leave(str(number))

    async def live(self) -> None:
        for number, (_, _, at_s, _, _, lives_s) in enumerate(self.asked):
            self.loop.call_later(at_s, lambda number=number: (self.boots.offer(str(number)), self.pump()))
            if lives_s is not None:
                self.loop.call_later(at_s + lives_s, self.leave, number)
        for _ in range(240):
            await asyncio.sleep(0.5)
            self.lowest_mib = min(self.lowest_mib, self.left_mib())


@given(guests)
@settings(max_examples=40, deadline=None)
def test_the_floor_is_never_touched(asked: list[Asked]) -> None:
    async def story() -> None:
        host = Host(asked)
        await host.live()
        assert host.lowest_mib >= FLOOR_MIB
        promised = sum(one[0] + SETTINGS.overhead_mib for one in asked)
        if promised <= TOTAL_MIB - FLOOR_MIB:
            alive = [number for number in range(len(asked)) if asked[number][5] is None]
            assert set(alive) <= set(host.began_s), "who fits beside all others starts"

    virtual_time.run(story())
