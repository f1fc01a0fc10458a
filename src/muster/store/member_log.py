"""How members of something changed, step by step: what hosts have still to be told.

Each change raises the owner's generation in the same transaction, so steps have no gap and commit in their order. What
is older than any message on its way is forgotten.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, and_, delete, or_, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import SchemaItem

from muster.domain.group_members import MemberChange
from muster.store.columns import flag, moment, reference, text
from muster.store.dialects import chunks


def change_columns(table: str, owner: str, owners: Table) -> tuple[SchemaItem, ...]:
    """Columns and indexes of a table of changes; `owner` is its column with the id of a row of `owners`."""
    return (
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        reference(owner, ForeignKey(owners.c.id, ondelete="CASCADE"), nullable=False),
        Column("generation", BigInteger, nullable=False),
        text("ip_address"),
        flag("joined"),
        moment("created_at"),
        Index(f"ix_{table}_generation", owner, "generation"),
        Index(f"ix_{table}_created_at", "created_at"),
    )


class MemberLog:
    """The log in a table made of `change_columns`, of the members of what `owners` holds."""

    def __init__(self, table: Table, owner: str, owners: Table) -> None:
        self.table = table
        self._owner = owner
        self._owners = owners

    async def raise_generations(self, connection: AsyncConnection, owner_ids: Collection[str]) -> dict[str, int]:
        """Members of these change: the new generation of each. One statement per owner, always in one order."""
        raised: dict[str, int] = {}
        generations = self._owners.c.member_generation
        for owner_id in sorted(owner_ids):
            statement = (
                update(self._owners)
                .where(self._owners.c.id == owner_id)
                .values(member_generation=generations + 1)
                .returning(generations)
            )
            generation = (await connection.execute(statement)).scalar_one_or_none()
            if generation is not None:
                raised[owner_id] = generation
        return raised

    async def insert(
        self,
        connection: AsyncConnection,
        changes: Mapping[str, MemberChange],
        generations: Mapping[str, int],
        now: float,
    ) -> None:
        """Log how members changed, under the generations that this made. One statement."""
        rows = [
            {
                self._owner: owner_id,
                "generation": generations[owner_id],
                "ip_address": address,
                "joined": joined,
                "created_at": now,
            }
            for owner_id, change in changes.items()
            for joined, addresses in ((True, change.joined), (False, change.left))
            for address in addresses
        ]
        if rows:
            await connection.execute(insert_into(self.table), rows)

    async def read(
        self, connection: AsyncConnection, wanted: Mapping[str, Collection[int]]
    ) -> dict[str, dict[int, MemberChange]]:
        """The logged changes of these owners at these generations, as far as they are there. One query per chunk."""
        columns = self.table.c
        owner = columns[self._owner]
        found: dict[tuple[str, int], tuple[list[str], list[str]]] = {}
        for part in chunks(sorted(wanted), 500):
            spans = [and_(owner == id_, columns.generation.between(min(wanted[id_]), max(wanted[id_]))) for id_ in part]
            statement = select(owner, columns.generation, columns.joined, columns.ip_address).where(or_(*spans))
            for owner_id, generation, joined, address in await connection.execute(statement):
                came, went = found.setdefault((owner_id, generation), ([], []))
                (came if joined else went).append(address)
        changes: dict[str, dict[int, MemberChange]] = {}
        for (owner_id, generation), (came, went) in found.items():
            changes.setdefault(owner_id, {})[generation] = MemberChange(joined=tuple(came), left=tuple(went))
        return changes

    async def forget(self, connection: AsyncConnection, before: float) -> None:
        """Drop what was logged before this moment. One statement."""
        await connection.execute(delete(self.table).where(self.table.c.created_at < before))
