"""Domains: the roots of the trees of projects, and what users, groups and projects belong to."""

from collections.abc import Sequence

from muster.base.errors import Forbidden, Invalid, NotFound
from muster.base.ids import new_hex
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.context import Context
from muster.domain.patches import ProjectPatch
from muster.domain.policies import Rule, allows
from muster.domain.projects import Project
from muster.domain.resource_options import require_mutable
from muster.domain.tag_filters import TagFilter
from muster.services.projects import apply_patch
from muster.services.quotas import forget_limits
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.store import projects as store
from muster.store import users as user_store
from muster.store.engine import Database

DEFAULT_DOMAIN_ID = "default"


class Domains:
    """Use cases about domains."""

    def __init__(self, db: Database, revocations: Revocations) -> None:
        self._db = db
        self._revocations = revocations

    @redeciding_calls("domains")
    async def create(self, patch: ProjectPatch) -> Project:
        """A new domain. Raises Invalid, also where it is said to be in another, Conflict for a taken name."""
        if patch.domain_id or patch.parent_id:
            raise Invalid("A domain is in no other domain and below no project")
        empty = Project(id=new_hex(), name="", domain_id=None, parent_id=None, is_domain=True)
        domain = apply_patch(empty, patch)
        with refusing("domain", patch.name):
            async with self._revocations.write() as change:
                await store.insert(change.connection, [domain])
        return domain

    async def show(self, context: Context, domain_id: str) -> Project:
        """A domain, for those whose token is scoped to it or into it, and for admins. Raises Forbidden, NotFound."""
        scope = context.domain_id or (context.project_domain_id if context.project_id else None)
        if scope != domain_id and not allows(Rule.SYSTEM_READER, context):
            raise Forbidden("You are not authorized to perform the requested action: identity:get_domain.")
        async with self._db.read() as connection:
            return _domain((await store.read(connection, [domain_id])).get(domain_id), domain_id)

    async def list_page(self, filters: Sequence[Filter], page: Page) -> Listing[Project]:
        """A page of domains. One query."""
        async with self._db.read() as connection:
            return await store.read_listing(connection, filters, page, is_domain=True, tags=TagFilter())

    @redeciding_calls("domains")
    async def update(self, domain_id: str, patch: ProjectPatch) -> Project:
        """Change a domain. Disabling it voids the tokens of its users and projects.

        Raises NotFound, Invalid, Forbidden for an immutable one, Conflict for a taken name. One transaction.
        """
        with refusing("domain", patch.name):
            async with self._revocations.write() as change:
                found = await store.read(change.connection, [domain_id], lock=True)
                old = _domain(found.get(domain_id), domain_id)
                require_mutable("domain", old.options, patch.options or {})
                new = apply_patch(old, patch)
                if old.enabled and not new.enabled:
                    change.revoke(subjects.of_domain(domain_id))
                await store.save(change.connection, new)
        return new

    @redeciding_calls("domains")
    async def delete(self, domain_id: str) -> None:
        """Delete a disabled domain with all that is in it, assignments and limits included, and void its tokens.

        Raises NotFound, Forbidden for one that is enabled or immutable, or the default domain. One transaction.
        """
        async with self._revocations.write() as change:
            domain = _domain((await store.read(change.connection, [domain_id], lock=True)).get(domain_id), domain_id)
            require_mutable("domain", domain.options)
            if domain_id == DEFAULT_DOMAIN_ID:
                raise Forbidden("The default domain cannot be deleted.")
            if domain.enabled:
                raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
            project_ids = [domain_id, *await store.read_places(change.connection, [domain_id])]
            user_ids = await user_store.read_ids(change.connection, domain_id)
            await store.remove(change.connection, domain_id)
            # After the projects: until then somebody may be setting a limit of one.
            await forget_limits(change.connection, project_ids, user_ids)
            change.revoke(subjects.of_domain(domain_id))


def _domain(found: Project | None, domain_id: str) -> Project:
    if found is None or not found.is_domain:
        raise NotFound(f"Could not find domain: {domain_id}.")
    return found
