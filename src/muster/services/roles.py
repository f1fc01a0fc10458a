"""Roles, and which imply which.

Invariant: tokens carry the names of their roles, so whatever makes a role's name mean less, or nothing, voids the
tokens that carry it.
"""

from collections.abc import Sequence

from msgspec import UNSET

from muster.base.errors import Forbidden, Invalid, NotFound
from muster.base.ids import new_hex
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.patches import RolePatch, changed
from muster.domain.projects import clean_name
from muster.domain.resource_options import merge_options, require_mutable
from muster.domain.roles import Implication, Role, check_implication
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.store import roles as store
from muster.store.engine import Connection, Database


class Roles:
    """Use cases about roles."""

    def __init__(self, db: Database, revocations: Revocations) -> None:
        self._db = db
        self._revocations = revocations

    @redeciding_calls("roles")
    async def create(self, patch: RolePatch) -> Role:
        """A new role, of a domain's own if it names one. Raises Invalid, NotFound, Conflict for a taken name."""
        role = _applied(Role(id=new_hex(), name="", domain_id=patch.domain_id or None), patch)
        with refusing("role", patch.name, gone=NotFound(f"Could not find domain: {role.domain_id}.")):
            async with self._revocations.write() as change:
                await store.insert(change.connection, [role])
        return role

    async def show(self, role_id: str) -> Role:
        """A role. Raises NotFound. One query."""
        async with self._db.read() as connection:
            return await _read_one(connection, role_id)

    async def list_page(self, filters: Sequence[Filter], page: Page) -> Listing[Role]:
        """A page of roles. One query."""
        async with self._db.read() as connection:
            return await store.read_listing(connection, filters, page)

    @redeciding_calls("roles")
    async def update(self, role_id: str, patch: RolePatch) -> Role:
        """Change a role; a new name voids the tokens with the old one. Raises NotFound, Forbidden, Conflict."""
        with refusing("role", patch.name):
            async with self._revocations.write() as change:
                old = await _read_one(change.connection, role_id, lock=True)
                if patch.domain_id is not UNSET and patch.domain_id != old.domain_id:
                    raise Invalid("Cannot change Domain ID")
                require_mutable("role", old.options, patch.options or {})
                new = _applied(old, patch)
                await store.save(change.connection, new)
                if new.name != old.name:
                    change.revoke(subjects.of_role(old.name))
        return new

    @redeciding_calls("roles")
    async def delete(self, role_id: str) -> None:
        """Delete a role with its assignments, and void the tokens with it. Raises NotFound, Forbidden."""
        async with self._revocations.write() as change:
            role = await _read_one(change.connection, role_id, lock=True)  # else it might get another name meanwhile
            require_mutable("role", role.options)
            implied = await self._implied(change.connection, role_id)
            await store.remove(change.connection, role_id)
            change.revoke(*_names_in_tokens(role, implied))

    async def implications(self, prior_id: str) -> tuple[Role, list[Role]]:
        """A role, and those that it implies directly. Raises NotFound. Three queries."""
        async with self._db.read() as connection:
            return await _read_one(connection, prior_id), await self._implied(connection, prior_id)

    async def all_implications(self) -> list[tuple[Role, list[Role]]]:
        """Each role that implies others, with those. Two queries."""
        async with self._db.read() as connection:
            pairs = await store.read_implications(connection)
            found = await store.read(connection, {id_ for one in pairs for id_ in (one.prior_id, one.implied_id)})
        pairs = [one for one in pairs if {one.prior_id, one.implied_id} <= set(found)]
        priors = dict.fromkeys(one.prior_id for one in pairs)
        return [(found[id_], [found[one.implied_id] for one in pairs if one.prior_id == id_]) for id_ in priors]

    @redeciding_calls("roles")
    async def imply(self, prior_id: str, implied_id: str) -> tuple[Role, Role]:
        """Let a role imply another. Raises NotFound, Invalid for a circle, Forbidden to imply a domain's own role."""
        new = Implication(prior_id, implied_id)
        with refusing("implication"):
            async with self._revocations.write() as change:
                prior = await _read_one(change.connection, prior_id)
                implied = await _read_one(change.connection, implied_id)
                if implied.domain_id is not None and prior.domain_id is None:
                    raise Forbidden("A domain's own role cannot be implied by a role of all domains")
                await store.hold_implications(change.connection)  # else two that are made at once may close a circle
                check_implication(new, await store.read_implications(change.connection))
                await store.add_implications(change.connection, [new])
        return prior, implied

    async def check_implies(self, prior_id: str, implied_id: str) -> tuple[Role, Role]:
        """Both roles, if the first implies the second directly. Raises NotFound."""
        async with self._db.read() as connection:
            prior = await _read_one(connection, prior_id)
            implied = await _read_one(connection, implied_id)
            if Implication(prior_id, implied_id) not in await store.read_implications(connection):
                raise NotFound(f"{prior_id} does not imply {implied_id}")
        return prior, implied

    @redeciding_calls("roles")
    async def stop_implying(self, prior_id: str, implied_id: str) -> None:
        """A role implies another no more, and tokens that may rest on it are void. Raises NotFound."""
        async with self._revocations.write() as change:
            prior = await _read_one(change.connection, prior_id)
            implied = await _read_one(change.connection, implied_id)
            if not await store.remove_implication(change.connection, Implication(prior_id, implied_id)):
                raise NotFound(f"{prior_id} does not imply {implied_id}")
            change.revoke(*_names_in_tokens(prior, [implied]))

    async def _implied(self, connection: Connection, prior_id: str) -> list[Role]:
        pairs = await store.read_implications(connection)
        found = await store.read(connection, [one.implied_id for one in pairs if one.prior_id == prior_id])
        return sorted(found.values(), key=lambda role: role.name)


def _names_in_tokens(role: Role, implied: Sequence[Role]) -> list[str]:
    # A domain's own role is not in tokens; what it implies is.
    concerned = [role] if role.domain_id is None else implied
    return [subjects.of_role(one.name) for one in concerned]


def _applied(old: Role, patch: RolePatch) -> Role:
    return changed(
        old,
        name=clean_name(patch.name) if patch.name is not UNSET else UNSET,
        description=patch.description,
        options=merge_options(old.options, patch.options) if patch.options is not UNSET else UNSET,
        extra={**old.extra, **patch.extra},
    )


async def _read_one(connection: Connection, role_id: str, *, lock: bool = False) -> Role:
    role = (await store.read(connection, [role_id], lock=lock)).get(role_id)
    if role is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return role
