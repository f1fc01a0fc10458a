"""The way to the knee: so many guests, how they answer, what to try next. Whose guests they are is not known here."""

from typing import Protocol

from muster.base.errors import Exhausted
from muster.fit.observer import Observer
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


async def find(crowd: Crowd, room: Room, options: FitOptions, observer: Observer) -> tuple[list[Step], Search]:
    """Try numbers of guests until the search has ended. Every try is in the steps, in order."""
    search, steps = Search(options.start, options.step, options.most), list[Step]()
    while (guests := search.next()) is not None:
        observer.tries(guests)
        step = await _try(crowd, guests, room, options)
        if step.reason is None:
            search.add(guests, within=step.within)
        else:
            search.rule_out(guests)
        steps.append(step)
        observer.found(step)
    return steps, search


async def _try(crowd: Crowd, guests: int, room: Room, options: FitOptions) -> Step:
    try:
        await crowd.resize(guests)
    except Full as full:
        return refused(guests, full.message, room)
    return measured(guests, await crowd.measure(), room, options)
