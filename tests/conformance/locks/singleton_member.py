"""A process that may do what one process does for all: it writes its pid and the time into a file while it does."""

import asyncio
import os
import sys
import time
from pathlib import Path

from muster.locks.open import open_locks
from muster.services.singleton import Singleton


async def main(url: str, tokens: Path, name: str, log: Path) -> None:
    locks = await open_locks(url, f"member-{os.getpid()}", tokens)

    async def work() -> None:
        while True:
            with log.open("a") as file:
                file.write(f"{os.getpid()} {time.monotonic()}\n")
            await asyncio.sleep(0.02)

    sys.stdout.write("there\n")
    sys.stdout.flush()
    await Singleton(locks, name, {"writing": work}).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
