"""The way to the knee: so many guests, how they answer, what to try next. Whose guests they are is not known here."""

from typing import NamedTuple, Protocol

from muster.base.errors import Exhausted, MusterError
from muster.fit.observer import Observer, in_words
from muster.fit.options import FitOptions
from muster.fit.records import Answers, Room, Step, measured, refused
from muster.fit.search import Search


class Full(Exhausted):
    """So many guests cannot be had; the message says why."""

    code = "fit.full"


class Crowd(Protocol):
    """Guests under load."""

    async def resize(self, guests: int) -> None:
        """Add or remove guests until there are so many, each up, loaded and answering.

        Raises Full when they cannot be had; how many there are then is not known, and the next call mends it.
        """

    async def measure(self) -> Answers:
        """How they answer, for a while."""


class Found(NamedTuple):
    """Every try, in order, what follows from them, and what kept the search from its end."""

    steps: list[Step]
    search: Search
    failure: str | None = None


async def find(crowd: Crowd, room: Room, options: FitOptions, observer: Observer) -> Found:
    """Try numbers of guests until the search has ended, or one of them fails.

    Raises what the first one fails of: then nothing was measured.
    """
    search, steps = Search(options.start, options.step, options.most), list[Step]()
    while (guests := search.next()) is not None:
        observer.tries(guests)
        try:
            step = await _try(crowd, guests, room, options)
        except MusterError as error:
            if not steps:
                raise
            return Found(steps, search, f"{in_words(guests)}: {error.message}")
        if step.reason is None:
            search.add(guests, within=step.within)
        else:
            search.rule_out(guests)
        steps.append(step)
        observer.found(step)
    return Found(steps, search)


async def _try(crowd: Crowd, guests: int, room: Room, options: FitOptions) -> Step:
    try:
        await crowd.resize(guests)
    except Full as full:
        return refused(guests, full.message, room)
    return measured(guests, await crowd.measure(), room, options)
