"""Asks the control plane for everything, and goes on asking, ever less often, until it has come.

Invariant: a Hello carries this agent's nonce; an answer to an agent before it is known by another.
"""

from random import Random

from msgspec import Struct

from muster.domain.messages import CONTROL_TOPIC, Hello
from muster.host.agenda import Agenda, Entry
from muster.host.reporter import Courier


class Patience(Struct, frozen=True, kw_only=True):
    """In seconds: before what is missing is asked for, after the first Hello without an answer (doubling), at most."""

    resync_delay_s: float
    hello_first_s: float
    hello_max_s: float


class Greeter:
    """One host's Hellos."""

    def __init__(self, courier: Courier, agenda: Agenda, rng: Random, patience: Patience) -> None:
        self._courier, self._agenda, self._rng, self._patience = courier, agenda, rng, patience
        self._hello: Hello | None = None
        self._entry: Entry | None = None
        self._after_s = 0.0

    def introduce(self, hello: Hello) -> None:
        """Say this from now on; at once for the first time."""
        self._hello = hello
        self._say()

    def miss(self) -> None:
        """Something is missing. It may only be late, so ask in a moment, once for all that is missing then."""
        if self._entry is None:
            self._after_s = 0.0
            self._entry = self._agenda.after(self._patience.resync_delay_s, self._say)

    def stop(self) -> None:
        """Nothing is missing any more."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        self._after_s = 0.0

    def close(self) -> None:
        """Say nothing any more."""
        self.stop()
        self._hello = None

    def _say(self) -> None:
        if self._hello is None:
            return
        self._courier.send(f"hello {self._hello.host_id}", CONTROL_TOPIC, self._hello)
        first_s, max_s = self._patience.hello_first_s, self._patience.hello_max_s
        self._after_s = min(max_s, max(first_s, 2 * self._after_s))
        self._entry = self._agenda.after(self._after_s * self._rng.uniform(0.8, 1.2), self._say)
