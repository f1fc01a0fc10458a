"""Ids of projects that an administrator names: compute asks whether they are any, as Nova asks Keystone."""

from muster.base.errors import Invalid
from muster.store import projects as store
from muster.store.engine import Connection


async def check_project(connection: Connection, project_id: str, *, lock: bool = False) -> None:
    """Raises Invalid for what is no project's id; with `lock` it stays one until the transaction ends. One query."""
    project = (await store.read(connection, [project_id], lock=lock)).get(project_id)
    if project is None or project.is_domain:
        raise Invalid(f"Project ID {project_id} is not a valid project.", code="compute.project")
