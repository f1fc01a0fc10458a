"""Keypairs. A private key that is made here is given to its user once and kept nowhere."""

import asyncio

from msgspec import Struct

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.base.errors import Conflict, Forbidden, Invalid, NotFound
from muster.domain.context import Context
from muster.domain.keypairs import SSH, X509, Keypair, certificate_fingerprint, fingerprint_of
from muster.domain.quotas import UNLIMITED, limit_of_user
from muster.services.new_keys import certificate_pair, ssh_pair
from muster.services.quotas import Quotas
from muster.services.redecide import redecided, redeciding_calls
from muster.store import keypairs as store
from muster.store import usages as usage_store
from muster.store.engine import Connection, Database, Violation

_RESOURCE = "key_pairs"
_KEYS_AT_ONCE = 2


class NewKeypair(Struct, frozen=True):
    """A keypair, with the private key if it was made here."""

    keypair: Keypair
    private_key: str | None = None


class Keypairs:
    """The use cases of keypairs. Users see their own, admins everybody's."""

    def __init__(self, database: Database, quotas: Quotas, clock: Clock) -> None:
        self._database = database
        self._quotas = quotas
        self._clock = clock
        self._making = asyncio.Semaphore(_KEYS_AT_ONCE)
        self._reads: Coalescer[tuple[str, str], Keypair | None] = Coalescer(
            redecided("keypairs.read", self._read), name="keypairs.read"
        )

    async def create(
        self, context: Context, user_id: str, name: str, public_key: str | None, kind: str = SSH
    ) -> NewKeypair:
        """Keep a public key, or make a pair (in a thread: 50 ms) if none is given.

        The name was checked (`domain.keypairs.check_name`). Raises Invalid for a bad key, Conflict for a name that is
        taken, Forbidden beyond the quota.
        """
        _check_own(context, user_id, "create")
        private_key, kept_key = (None, public_key) if public_key is not None else await self._make(kind, user_id)
        keypair = Keypair(
            user_id=user_id,
            name=name,
            type=kind,
            public_key=kept_key,
            fingerprint=certificate_fingerprint(kept_key) if kind == X509 else fingerprint_of(kept_key),
            created_at=self._clock(),
        )
        await self._insert(context, keypair)
        return NewKeypair(keypair, private_key)

    async def get(self, context: Context, user_id: str, name: str) -> Keypair:
        """A keypair. Raises NotFound. Requests that come together share one query."""
        _check_own(context, user_id, "show")
        keypair = await self._reads.submit((user_id, name))
        if keypair is None:
            raise _not_found(user_id, name)
        return keypair

    async def page(
        self, context: Context, user_id: str, *, limit: int | None = None, marker: str | None = None
    ) -> list[Keypair]:
        """A user's keypairs by name. Raises Invalid for an unknown marker. One query, two with a marker."""
        _check_own(context, user_id, "index")
        async with self._database.read() as connection:
            if marker is not None and not await store.read_named(connection, {(user_id, marker)}):
                raise Invalid(f"Marker {marker} could not be found.")
            return await store.read_page(connection, user_id, limit=limit, after=marker)

    @redeciding_calls("keypairs")
    async def delete(self, context: Context, user_id: str, name: str) -> None:
        """Forget a keypair; servers that were made with it keep it. Raises NotFound."""
        _check_own(context, user_id, "delete")
        async with self._database.write() as connection:
            if not await store.remove(connection, user_id, name):
                raise _not_found(user_id, name)
            await usage_store.add(connection, {(user_id, _RESOURCE): -1})

    @redeciding_calls("keypairs")
    async def _insert(self, context: Context, keypair: Keypair) -> None:
        try:
            async with self._database.write() as connection:
                await self._count(connection, context, keypair.user_id)
                await store.insert_all(connection, [keypair])
        except Violation as error:
            raise Conflict(f"Key pair '{keypair.name}' already exists.", code="compute.keypair_exists") from error

    async def _make(self, kind: str, user_id: str) -> tuple[str, str]:
        async with self._making:
            if kind == X509:
                return await asyncio.to_thread(certificate_pair, user_id, self._clock())
            return await asyncio.to_thread(ssh_pair)

    async def _count(self, connection: Connection, context: Context, user_id: str) -> None:
        """Count one more key of this user: keys are the user's in all projects. As with Nova, limits are those of the
        project that the caller is in, and of the user there."""
        after = await usage_store.add(connection, {(user_id, _RESOURCE): 1})
        project_id = context.project_id or ""
        standing = await self._quotas.limits_with_users(connection, {project_id}, {user_id}, {_RESOURCE})
        limit = limit_of_user(standing.limits, project_id, user_id, _RESOURCE)
        if UNLIMITED != limit < after.in_use[user_id, _RESOURCE]:
            raise Forbidden("Quota exceeded, too many key pairs.", code="compute.quota")

    async def _read(self, names: list[tuple[str, str]]) -> list[Keypair | None]:
        async with self._database.read() as connection:
            found = await store.read_named(connection, set(names))
        return [found.get(name) for name in names]


def _check_own(context: Context, user_id: str, verb: str) -> None:
    if user_id != context.user_id and not context.is_admin:
        raise Forbidden(f"Policy doesn't allow os_compute_api:os-keypairs:{verb} to be performed.", code="http.policy")


def _not_found(user_id: str, name: str) -> NotFound:
    return NotFound(f"Keypair {name} not found for user {user_id}", code="compute.keypair_not_found")
