"""Pages of servers: filters, order and markers.

A page costs what it returns where an index has its order and most servers are wanted. Where few are, it costs what
those do who meet one condition, if that one has an index.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import NotFound
from muster.domain.server_listing import ServerQuery, like
from muster.domain.servers import Server
from muster.store.addresses import addresses
from muster.store.dialects import among, among_bound, finds, of_row
from muster.store.hosts import hosts
from muster.store.ports import ports
from muster.store.servers import UNUSUAL, WITH_HOST, read_rows, server_tags, servers, with_details
from muster.store.tag_filters import tag_conditions

# The columns by which servers can be filtered. Of some an index finds who are few (`_looks`), but in no order: a page
# is not read by these.
FILTERS: Mapping[str, Any] = {
    "access_ip_v4": servers.c.access_ip_v4,
    "access_ip_v6": servers.c.access_ip_v6,
    "availability_zone": func.coalesce(hosts.c.availability_zone, servers.c.availability_zone, ""),
    "config_drive": servers.c.config_drive,
    "created_at": servers.c.created_at,
    "description": servers.c.description,
    "disk_config": servers.c.disk_config,
    "flavor_id": servers.c.flavor_id,
    "host": hosts.c.hostname,
    "hostname": servers.c.hostname,
    "image_id": of_row(servers.c.image_id),
    "key_name": servers.c.key_name,
    "launch_index": servers.c.launch_index,
    "launched_at": servers.c.launched_at,
    "locked": servers.c.locked,
    "locked_by": servers.c.locked_by,
    "name": servers.c.name,
    "power_state": servers.c.power_state,
    "reservation_id": servers.c.reservation_id,
    "server_group_id": servers.c.server_group_id,
    "task_state": servers.c.task_state,
    "terminated_at": servers.c.terminated_at,
    "user_id": servers.c.user_id,
    "uuid": servers.c.id,
    "vm_state": of_row(servers.c.vm_state),
}
# What servers can be sorted by: never NULL, so that a marker has a place in every order on every database.
SORTS: Mapping[str, Any] = {
    **{name: func.coalesce(FILTERS[name], 0) for name in ("launched_at", "terminated_at")},
    **{
        name: func.coalesce(FILTERS[name], "")
        for name in ("description", "host", "image_id", "key_name", "locked_by", "task_state")
    },
    **{name: case((FILTERS[name], 1), else_=0) for name in ("config_drive", "locked")},
    **{
        name: FILTERS[name]
        for name in ("access_ip_v4", "access_ip_v6", "availability_zone", "created_at", "disk_config", "flavor_id")
    },
    **{name: FILTERS[name] for name in ("hostname", "launch_index", "name", "power_state", "user_id", "vm_state")},
    "project_id": servers.c.project_id,
    "updated_at": servers.c.updated_at,
    "uuid": servers.c.id,
}

# How many servers a condition may leave for these to be few.
_FEW = 1_000
# SQLite's word for a row's number, which each index has.
_ROW = literal_column("servers.rowid", BigInteger)

# The conditions of most lists. What they bind has their name, so a statement of some of them is made once (`_listing`).
_USUAL: Mapping[str, ColumnElement[bool]] = {
    "rows": among_bound(_ROW, "rows"),
    "names": among_bound(servers.c.name, "names"),
    "project_id": servers.c.project_id == bindparam("project_id"),
    "project_by_row": of_row(servers.c.project_id) == bindparam("project_by_row"),
    "changes_since": servers.c.updated_at >= bindparam("changes_since"),
    "changes_before": servers.c.updated_at <= bindparam("changes_before"),
    "name": finds(servers.c.name, bindparam("name", type_=Text())),
    "ascii_name": finds(servers.c.name, bindparam("ascii_name", type_=Text()), of_ascii=True),
    "there": servers.c.deleted_at.is_(None),
    "gone": servers.c.deleted_at.is_not(None),
}
_IS_UNUSUAL: ColumnElement[bool] = literal_column(UNUSUAL)

# What finds few by an index.
_SOME = select(_ROW).select_from(servers).limit(_FEW + 1)
_CHANGED = _SOME.where(_USUAL["changes_since"])


async def read_page(connection: AsyncConnection, query: ServerQuery) -> list[Server]:
    """A page of servers. Raises NotFound (`compute.marker`) for an unknown marker. One query, two with a marker, two
    more with `interfaces`; on SQLite one more for each of `_looks`, until one finds few, on PostgreSQL one more for a
    pattern of names in a project."""
    few = await (_few if connection.dialect.name == "sqlite" else _few_names)(connection, query)
    names, values = _usual(query, few)
    statement = _listing(names, query.sort)
    conditions = _conditions(query)
    if query.marker is not None:
        conditions.append(await _after(connection, query, _keys(query.sort)))
    if connection.dialect.name != "sqlite" and _are_unusual(query):
        conditions.append(_IS_UNUSUAL)
    if conditions:
        statement = statement.where(*conditions)
    found = await read_rows(connection, statement, {**values, "n_rows": query.limit})
    return await with_details(connection, found) if query.interfaces else found


def _usual(query: ServerQuery, few: Mapping[str, object]) -> tuple[tuple[str, ...], dict[str, object]]:
    """Which of `_USUAL` a query asks for, besides what leaves `few`, and what is bound to them."""
    wanted: dict[str, object] = {
        **few,
        "project_by_row" if "rows" in few else "project_id": query.project_id,
        "changes_since": query.changes_since,
        "changes_before": query.changes_before,
    }
    patterns = like(query.patterns["name"]) if "name" in query.patterns else ()
    if len(patterns) == 1:
        wanted["ascii_name" if patterns[0].isascii() else "name"] = patterns[0]
    values = {name: value for name, value in wanted.items() if value is not None}
    state = () if query.deleted is None else ("gone",) if query.deleted else ("there",)
    return (*values, *state), values


@lru_cache(maxsize=256)
def _listing(names: tuple[str, ...], sort: tuple[tuple[str, bool], ...]) -> Select[Any]:
    """`n_rows` servers at most, by these of `_USUAL`, in an order: made once for each kind of list."""
    order = [column.desc() if descending else column.asc() for column, descending in _keys(sort)]
    limit = bindparam("n_rows", type_=Integer())
    return WITH_HOST.where(*(_USUAL[name] for name in names)).order_by(*order).limit(limit)


def _keys(sort: Sequence[tuple[str, bool]]) -> list[tuple[Any, bool]]:
    """The columns of an order; the id makes it total."""
    keys = [(SORTS[name], descending) for name, descending in sort]
    if not any(column is servers.c.id for column, _ in keys):
        keys.append((servers.c.id, keys[0][1] if keys else True))
    return keys


async def _few(connection: AsyncConnection, query: ServerQuery) -> dict[str, object]:
    """The rows that a condition leaves which few servers meet, some of which are those of the page; or no such one.

    SQLite knows nothing about the values in a column. It takes the index that has the order and reads until the page is
    full: all servers of a project, where fewer are wanted. PostgreSQL knows, by its statistics.
    """
    for statement, values in _looks(query):
        found: Sequence[int] = (await connection.execute(statement, values)).scalars().all()
        if len(found) <= _FEW:
            return {"rows": found}
    return {}


async def _few_names(connection: AsyncConnection, query: ServerQuery) -> dict[str, object]:
    """On PostgreSQL, if a pattern of names finds few in a project: their names.

    It does not know how many that will be, and would read the rows of all of the project until the page is full. This
    reads an index alone. Other conditions that few meet it knows, and finds their rows by them.
    """
    pattern = query.patterns.get("name")
    others = query.changes_since is not None or query.filters.keys() & {"host", "image_id"} or _are_unusual(query)
    if pattern is None or query.project_id is None or others:
        return {}
    named = select(servers.c.name).where(servers.c.project_id == query.project_id, _finds(servers.c.name, pattern))
    found = (await connection.execute(named.limit(_FEW + 1))).scalars().all()
    return {"names": sorted(set(found))} if len(found) <= _FEW else {}


def _looks(query: ServerQuery) -> Iterator[tuple[Select[Any], dict[str, object]]]:
    """What finds those who meet conditions of the query that few may meet. Each ends where too many are found, but for
    the last, which goes over the names of a whole project. All but hosts' are of an index alone."""
    project = [] if query.project_id is None else [servers.c.project_id == query.project_id]
    if query.changes_since is not None:
        yield _CHANGED, {"changes_since": query.changes_since}
    if _are_unusual(query):
        yield _SOME.where(among(servers.c.vm_state, query.vm_states), *project, _USUAL["there"], _IS_UNUSUAL), {}
    if "host" in query.filters and query.deleted is False:
        named = select(hosts.c.id).where(among(hosts.c.hostname, query.filters["host"]))
        yield _SOME.where(servers.c.host_id.in_(named), _USUAL["there"]), {}
    if "image_id" in query.filters:
        yield _SOME.where(among(servers.c.image_id, query.filters["image_id"])), {}
    if "name" in query.patterns:
        yield _SOME.where(*project, _finds(servers.c.name, query.patterns["name"])), {}


def _are_unusual(query: ServerQuery) -> bool:
    """Whether all that are asked for are `UNUSUAL` and there."""
    return query.deleted is False and bool(query.vm_states) and {"active", "building"}.isdisjoint(query.vm_states)


async def _after(
    connection: AsyncConnection, query: ServerQuery, keys: Sequence[tuple[Any, bool]]
) -> ColumnElement[bool]:
    columns = [column for column, _ in keys]
    statement = select(*columns).select_from(servers.outerjoin(hosts, hosts.c.id == servers.c.host_id))
    statement = statement.where(servers.c.id == query.marker)
    if query.project_id is not None:
        statement = statement.where(servers.c.project_id == query.project_id)
    row = (await connection.execute(statement)).first()
    if row is None:
        raise NotFound(f"marker [{query.marker}] not found", code="compute.marker")
    terms = []
    for index, (column, descending) in enumerate(keys):
        equal = [columns[i] == row[i] for i in range(index)]
        terms.append(and_(*equal, column < row[index] if descending else column > row[index]))
    return or_(*terms)


def _conditions(query: ServerQuery) -> list[ColumnElement[bool]]:
    """Those that are not `_usual`."""
    conditions: list[ColumnElement[bool]] = []
    if query.vm_states:
        conditions.append(among(FILTERS["vm_state"], query.vm_states))
    if query.task_states:
        conditions.append(among(servers.c.task_state, query.task_states))
    conditions += [among(FILTERS[name], values) for name, values in query.filters.items()]
    conditions += [
        _finds(FILTERS[name], text) for name, text in query.patterns.items() if name != "name" or len(like(text)) != 1
    ]
    for name, moment in query.moments.items():
        conditions += [FILTERS[name] >= moment, FILTERS[name] < moment + 1]
    conditions += [_has_address(text, version) for text, version in ((query.ip, 4), (query.ip6, 6)) if text is not None]
    return [*conditions, *tag_conditions(servers.c.id, server_tags.c.server_id, query.tags)]


def _finds(column: Any, pattern: str) -> ColumnElement[bool]:
    return or_(*(finds(column, text) for text in like(pattern)))


def _has_address(text: str, version: int) -> ColumnElement[bool]:
    of_version, owner = addresses.c.ip_address.contains(":"), servers.alias()  # an alias: computed once, not per row
    having = (
        select(ports.c.device_id)
        .join(addresses, addresses.c.port_id == ports.c.id)
        .join(owner, and_(owner.c.id == ports.c.device_id, owner.c.project_id == ports.c.project_id))
        .where(_finds(addresses.c.ip_address, text), of_version if version == 6 else not_(of_version))
    )
    return servers.c.id.in_(having)
