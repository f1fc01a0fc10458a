"""Projects: a tree in each domain.

Invariant: a project that is enabled stands below enabled ones only.
"""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from muster.base.errors import Forbidden, Invalid, NotFound
from muster.base.ids import new_hex
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.context import Context
from muster.domain.patches import ProjectPatch, changed
from muster.domain.policies import Rule, allows
from muster.domain.projects import NAME_MAX, Project, check_tags, clean_name
from muster.domain.resource_options import merge_options, require_mutable
from muster.domain.tag_filters import TagFilter
from muster.services.quotas import forget_limits
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.services.rights import read_above
from muster.store import projects as store
from muster.store import users as user_store
from muster.store.engine import Connection, Database

MAX_DEPTH = 5  # of projects below their domain, as in Keystone


class Projects:
    """Use cases about projects."""

    def __init__(self, db: Database, revocations: Revocations) -> None:
        self._db = db
        self._revocations = revocations

    @redeciding_calls("projects")
    async def create(self, context: Context, patch: ProjectPatch) -> Project:
        """A new project in a domain (by default the caller's own), at the top or below another project.

        Raises Invalid, NotFound for a domain or parent that does not exist, Forbidden below a disabled project or too
        deep, Conflict for a taken name. One transaction.
        """
        project = apply_patch(Project(id=new_hex(), name="", domain_id=None, parent_id=None), patch)
        with refusing("project", patch.name):
            async with self._revocations.write() as change:
                parent = await self._read_parent(change.connection, context, patch)
                if not parent.enabled:
                    raise Forbidden("A project cannot be made below a disabled one")
                if len(await read_above(change.connection, parent)) >= MAX_DEPTH:
                    raise Forbidden(f"Max hierarchy depth of {MAX_DEPTH} reached")
                project = replace(project, domain_id=parent.domain_id or parent.id, parent_id=parent.id)
                await store.insert(change.connection, [project])
        return project

    async def _read_parent(self, connection: Connection, context: Context, patch: ProjectPatch) -> Project:
        domain_id = patch.domain_id or None
        parent_id = patch.parent_id or domain_id or context.domain_id or context.project_domain_id
        parent = (await store.read(connection, [parent_id], lock=True)).get(parent_id)
        if parent is None:
            raise NotFound(f"Could not find {'project' if patch.parent_id else 'domain'}: {parent_id}.")
        if not patch.parent_id and not parent.is_domain:
            raise NotFound(f"Could not find domain: {parent_id}.")
        if domain_id not in {None, parent.domain_id or parent.id}:
            raise Invalid("The parent project is in another domain")
        return parent

    async def show(self, context: Context, project_id: str) -> Project:
        """A project, for its own users and for admins. Raises Forbidden for others, NotFound. One query."""
        if context.project_id != project_id and not allows(Rule.SYSTEM_READER, context):
            raise Forbidden("You are not authorized to perform the requested action: identity:get_project.")
        return await self.get(project_id)

    async def get(self, project_id: str) -> Project:
        """A project, or a domain seen as one. Raises NotFound. One query."""
        async with self._db.read() as connection:
            return await _read_one(connection, project_id)

    async def list_page(
        self, filters: Sequence[Filter], page: Page, *, is_domain: bool, tags: TagFilter
    ) -> Listing[Project]:
        """A page of projects. One query."""
        async with self._db.read() as connection:
            return await store.read_listing(connection, filters, page, is_domain=is_domain, tags=tags)

    @redeciding_calls("projects")
    async def update(self, project_id: str, patch: ProjectPatch) -> Project:
        """Change a project. Disabling one voids its tokens.

        Raises NotFound, Invalid for another domain, Forbidden for another parent, for an immutable project and for
        disabling (enabling) one that has enabled (a disabled) project below (above) it, Conflict for a taken name.
        """
        with refusing("project", patch.name):
            async with self._revocations.write() as change:
                old = await _read_one(change.connection, project_id, lock=True)
                if old.is_domain:
                    raise Forbidden("A domain is changed with PATCH /v3/domains")
                check_place(old, patch)
                require_mutable("project", old.options, patch.options or {})
                new = apply_patch(old, patch)
                if old.enabled and not new.enabled:
                    await self._check_children(change.connection, old)
                    change.revoke(subjects.of_project(project_id))
                if new.enabled and not old.enabled:
                    await self._check_parents(change.connection, old)
                await store.save(change.connection, new)
        return new

    async def _check_children(self, connection: Connection, project: Project) -> None:
        if any(child.enabled for child in await store.read_children(connection, project.id)):
            raise Forbidden(f"Cannot disable project {project.id} since its subtree contains enabled projects.")

    async def _check_parents(self, connection: Connection, project: Project) -> None:
        above = await store.read(connection, await read_above(connection, project))
        if not all(parent.enabled for parent in above.values() if not parent.is_domain):
            raise Forbidden(f"Cannot enable project {project.id} since it has disabled parents.")

    @redeciding_calls("projects")
    async def delete(self, project_id: str) -> None:
        """Delete a project with its assignments, application credentials and limits, and void its tokens.

        Raises NotFound, Forbidden for a domain, an immutable project and one with projects below it. One transaction.
        """
        leaf = Forbidden(f"Cannot delete the project {project_id} since it is not a leaf in the hierarchy.")
        with refusing("project", gone=leaf):
            async with self._revocations.write() as change:
                project = await _read_one(change.connection, project_id, lock=True)
                if project.is_domain:
                    raise Forbidden("A domain is deleted with DELETE /v3/domains")
                require_mutable("project", project.options)
                await user_store.forget_default_project(change.connection, project_id)
                await store.remove(change.connection, project_id)
                await forget_limits(change.connection, [project_id], [])
                change.revoke(subjects.of_project(project_id))

    async def set_tags(self, project_id: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Replace a project's tags. Raises NotFound, Invalid."""
        return (await self.update(project_id, ProjectPatch(tags=list(tags)))).tags

    @redeciding_calls("projects")
    async def add_tag(self, project_id: str, tag: str) -> None:
        """Add one tag. Raises NotFound, Invalid."""
        async with self._revocations.write() as change:
            old = await _read_one(change.connection, project_id, lock=True)
            require_mutable("project", old.options)
            await store.save(change.connection, replace(old, tags=check_tags([*old.tags, tag])))

    @redeciding_calls("projects")
    async def remove_tag(self, project_id: str, tag: str) -> None:
        """Take one tag away. Raises NotFound, also when it was not there."""
        async with self._revocations.write() as change:
            old = await _read_one(change.connection, project_id, lock=True)
            require_mutable("project", old.options)
            if tag not in old.tags:
                raise NotFound(f"Could not find project tag: {tag}.")
            await store.save(change.connection, replace(old, tags=tuple(one for one in old.tags if one != tag)))

    async def parents(self, project_id: str) -> list[Project]:
        """The projects above one, nearest first, its domain at the end. Up to three queries."""
        async with self._db.read() as connection:
            above = await read_above(connection, await _read_one(connection, project_id))
            found = await store.read(connection, above)
        return [found[one] for one in above if one in found]

    async def subtree(self, project_id: str) -> list[Project]:
        """The projects below one, level by level. A query per project that has some below it."""
        below: list[Project] = []
        async with self._db.read() as connection:
            waiting = [await _read_one(connection, project_id)]
            while waiting:
                children = await store.read_children(connection, waiting.pop(0).id)
                below += children
                waiting += children
        return below


def apply_patch(old: Project, patch: ProjectPatch) -> Project:
    """A project or domain after a change, but for its place in the tree. Raises Invalid."""
    return changed(
        old,
        name=clean_name(patch.name, NAME_MAX) if patch.name is not UNSET else UNSET,
        enabled=patch.enabled,
        description=(patch.description or "") if patch.description is not UNSET else UNSET,
        tags=check_tags(patch.tags) if patch.tags is not UNSET else UNSET,
        options=merge_options(old.options, patch.options) if patch.options is not UNSET else UNSET,
        extra={**old.extra, **patch.extra},
    )


def check_place(old: Project, patch: ProjectPatch) -> None:
    """What stays as it is. Raises Invalid for another domain or kind, Forbidden for another parent."""
    if patch.domain_id is not UNSET and patch.domain_id != old.domain_id:
        raise Invalid("Cannot change Domain ID")
    if patch.parent_id is not UNSET and patch.parent_id != old.parent_id:
        raise Forbidden("Update of `parent_id` is not allowed.")
    if patch.is_domain is not UNSET and patch.is_domain != old.is_domain:
        raise Invalid("Update of `is_domain` is not allowed.")


async def _read_one(connection: Connection, project_id: str, *, lock: bool = False) -> Project:
    project = (await store.read(connection, [project_id], lock=lock)).get(project_id)
    if project is None:
        raise NotFound(f"Could not find project: {project_id}.")
    return project
