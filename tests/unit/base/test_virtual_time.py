import asyncio
import time

import pytest

from muster.base import virtual_time


def test_hours_pass_at_once_and_in_order() -> None:
    async def main() -> list[float]:
        loop, seen = asyncio.get_running_loop(), []

        async def note(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            seen.append(loop.time())

        await asyncio.gather(note(7200.0), note(3600.0), note(1.0))
        return seen

    before = time.monotonic()
    assert virtual_time.run(main()) == [1.0, 3600.0, 7200.0]
    assert time.monotonic() - before < 60.0


def test_waiting_for_nothing_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        virtual_time.run(main())
