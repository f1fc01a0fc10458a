import asyncio

from muster.base import virtual_time
from muster.host.agenda import Agenda


def test_everything_at_its_time_and_one_timer_for_all() -> None:
    async def main() -> None:
        loop, agenda, seen = asyncio.get_running_loop(), Agenda(), []

        def note(name: str) -> None:
            seen.append((name, round(loop.time(), 1)))

        agenda.after(3.0, lambda: note("third"))
        agenda.after(1.0, lambda: note("first"))
        cancelled = agenda.after(2.0, lambda: note("never"))
        agenda.after(1.0, lambda: agenda.after(1.5, lambda: note("second")))
        cancelled.cancel()
        await asyncio.sleep(10.0)
        assert seen == [("first", 1.0), ("second", 2.5), ("third", 3.0)]
        agenda.after(1.0, lambda: note("after the end"))
        agenda.close()
        await asyncio.sleep(10.0)
        assert len(seen) == 3

    virtual_time.run(main())
