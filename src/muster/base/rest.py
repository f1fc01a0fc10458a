"""A rest after each round of work that goes on for ever: what comes meanwhile shares the next round.

Rounds cost about the same however much is in them, so under load a round must not begin as soon as something is there.
What comes alone is served at once, since nobody rests before a round.
"""

import asyncio

# Rounds are at most a quarter of the time, and nothing waits longer than this for the next one.
_TIMES, _MAX_S = 3, 0.3


async def rest(took_s: float) -> None:
    """Rest three times as long as a round took, up to 0.3 s."""
    await asyncio.sleep(min(_MAX_S, _TIMES * took_s))
