"""The keys that seal tokens: rows that all workers share, numbered and rotated as Keystone's key files are.

The highest number is the primary key, which seals; 0 is staged, the next primary; the others are secondary. All of
them open tokens. Invariant: a key is known everywhere before the first token is sealed with it, since it is staged for
much longer than any process takes to look; and it is kept as long as tokens sealed with it live.

A key is kept sealed, once for each secret that its worker knows: so the cluster's secret can be replaced while workers
with the old one and with the new one serve side by side, and the keys, and with them all tokens, stay.
"""

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from muster.base.clock import Clock
from muster.base.errors import Bug, Invalid
from muster.base.log import get_logger
from muster.services.cluster_secret import ClusterSecret
from muster.store import token_keys as store
from muster.store.engine import Database
from muster.store.token_keys import SealedKey

STAGED = 0
#: A token lives an hour: with a rotation a day, its key is there for one day more.
ROTATE_AFTER_S = 86_400.0
# No rotation before whoever shares the database has surely looked for the staged key: they look every 20 s.
KNOWN_AFTER_S = 60.0
_BETWEEN = " "  # seals of one key

log = get_logger(__name__)


class KeyRing:
    """The keys as one process holds them. `generation` grows whenever they change."""

    def __init__(self) -> None:
        self._fernet: MultiFernet | None = None
        self.generation = 0

    def hold(self, keys: list[bytes]) -> None:
        """Seal with the first of these from now on, and open with each."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self.generation += 1

    def seal(self, data: bytes) -> bytes:
        return self._held.encrypt(data)

    def open(self, data: bytes) -> bytes:
        """Raises cryptography's InvalidToken for what none of the keys has sealed."""
        return self._held.decrypt(data)

    @property
    def _held(self) -> MultiFernet:
        if self._fernet is None:
            raise Bug("There is no token key")
        return self._fernet


class TokenKeys:
    """The keys in the database. `prepare` at the start, `refresh` every few seconds."""

    def __init__(self, database: Database, secret: ClusterSecret, clock: Clock, *, max_active_keys: int = 3) -> None:
        if max_active_keys < 2:
            raise Invalid("At least 2 token keys must be kept, else rotation voids all tokens")
        self._database = database
        self._clock = clock
        self._max_active_keys = max_active_keys
        self._seals = [Fernet(base64.urlsafe_b64encode(key)) for key in secret.keys("token keys")]
        self._keys: list[bytes] = []
        self._sealed: tuple[str, ...] = ()
        self.ring = KeyRing()

    async def prepare(self) -> None:
        """Make the first keys where they are missing, and know them; safe if several processes do so at once.

        Raises Invalid when they were sealed by another secret than this cluster's. One transaction, two queries.
        """
        async with self._database.write() as connection:
            await store.insert_missing(connection, {STAGED: self._new_key(), 1: self._new_key()})
        await self.refresh()

    async def refresh(self) -> None:
        """Know what other processes rotated. One query. Raises what `prepare` raises, Transient."""
        async with self._database.read() as connection:
            found = await store.read(connection)
        sealed = tuple(found[number].sealed for number in sorted(found, reverse=True))
        if sealed != self._sealed:
            keys = [self._opened(one) for one in sealed]
            if keys != self._keys:
                self.ring.hold(keys)
            self._keys, self._sealed = keys, sealed

    async def reseal(self) -> bool:
        """Each key is sealed for the secrets of this process, and for no other; returns whether one was not.

        One query when all are. Raises what `prepare` raises, Transient.
        """
        async with self._database.read() as connection:
            found = await store.read(connection)
        outdated = [key.sealed for key in found.values() if not self._is_current(key.sealed)]
        if outdated:
            async with self._database.write() as connection:
                await store.reseal(
                    connection, {sealed: self._sealed_for_all(self._opened(sealed)) for sealed in outdated}
                )
            log.warning("token keys are sealed anew", action="token_keys.resealed", secrets=len(self._seals))
        return bool(outdated)

    async def rotate(self, *, after_s: float = ROTATE_AFTER_S) -> bool:
        """The staged key becomes the primary one, a new one is staged, and surplus secondary keys go.

        Nothing happens, and the answer is False, when the last rotation was less than `after_s` ago. One transaction.
        """
        now = self._clock()
        async with self._database.write() as connection:
            numbers = sorted(await store.read(connection))
            primary = numbers[-1] + 1
            if not await store.renumber(connection, STAGED, primary, now - max(after_s, KNOWN_AFTER_S)):
                return False
            await store.insert_missing(connection, {STAGED: self._new_key()})
            kept = [*numbers[1:], primary][-(self._max_active_keys - 1) :]
            await store.remove(connection, set(numbers) - {STAGED, *kept})
        await self.refresh()
        return True

    def _new_key(self) -> SealedKey:
        return SealedKey(self._sealed_for_all(Fernet.generate_key()), self._clock())

    def _sealed_for_all(self, key: bytes) -> str:
        return _BETWEEN.join(seal.encrypt(key).decode("ascii") for seal in self._seals)

    def _is_current(self, sealed: str) -> bool:
        parts = sealed.split(_BETWEEN)
        return len(parts) == len(self._seals) and all(map(_opens, self._seals, parts))

    def _opened(self, sealed: str) -> bytes:
        for part in sealed.split(_BETWEEN):
            for seal in self._seals:
                if _opens(seal, part):
                    return seal.decrypt(part)
        raise Invalid(
            "The cluster's secret is not the one that its token keys are sealed with: give this machine the same "
            "secret as the others (if it is lost, empty the table token_keys; all tokens are void then)"
        )


def _opens(seal: Fernet, sealed: str) -> bool:
    try:
        seal.decrypt(sealed)
    except InvalidToken:
        return False
    return True
