"""Pages of images: conditions, order and what a viewer may see, in SQL. A page costs what it returns."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, Text, and_, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.base.errors import Invalid
from muster.domain.image_listing import ImageFilter, ImagePage, Sort, TimeFilter, Viewer
from muster.domain.images import Image, Visibility
from muster.store.dialects import among
from muster.store.images import image_members, image_properties, image_tags, images, with_details


async def read_page(connection: AsyncConnection, wanted: ImageFilter, page: ImagePage, viewer: Viewer) -> list[Image]:
    """The images of a page, in order. Three queries, one more with a marker.

    Raises Invalid for a marker that is no image which the viewer sees.
    """
    seen = _seen(viewer, wanted.member_status)
    statement = select(images).where(seen, *_conditions(wanted, viewer))
    # The id makes the order total; the time of creation is what the reference falls back to.
    first = page.sorts[0].descending
    sorts = (*page.sorts, Sort("created_at", first), Sort("id", first))
    if page.marker is not None:
        statement = statement.where(await _behind(connection, sorts, page.marker, viewer))
    for sort in sorts:
        key = _key(sort)
        statement = statement.order_by(key.desc() if sort.descending else key.asc())
    return await with_details(connection, await connection.execute(statement.limit(page.limit)))


def _seen(viewer: Viewer, member_status: str) -> ColumnElement[bool]:
    if viewer.is_admin:
        return true()
    published = images.c.visibility.in_([Visibility.PUBLIC, Visibility.COMMUNITY])
    if viewer.project_id is None:
        return published
    shared = select(image_members.c.image_id).where(image_members.c.member_id == viewer.project_id)
    if member_status != "all":
        shared = shared.where(image_members.c.status == member_status)
    with_viewer = and_(images.c.visibility == Visibility.SHARED, images.c.id.in_(shared))
    return or_(published, images.c.owner == viewer.project_id, with_viewer)


def _conditions(wanted: ImageFilter, viewer: Viewer) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = [images.c.os_hidden.is_(wanted.os_hidden)]
    terms += [among(images.c[field], values) for field, values in wanted.one_of.items()]
    terms += [_time(item) for item in wanted.times]
    if wanted.size_min is not None:
        terms.append(images.c.size >= wanted.size_min)
    if wanted.size_max is not None:
        terms.append(images.c.size <= wanted.size_max)
    if wanted.protected is not None:
        terms.append(images.c.protected.is_(wanted.protected))
    for tag in wanted.tags:
        terms.append(images.c.id.in_(select(image_tags.c.image_id).where(image_tags.c.tag == tag)))
    for name, value in wanted.properties.items():
        having = (image_properties.c.name == name) & (image_properties.c.value == value)
        terms.append(images.c.id.in_(select(image_properties.c.image_id).where(having)))
    return [*terms, *_visibility(wanted.visibility, viewer)]


def _visibility(wanted: str | None, viewer: Viewer) -> list[ColumnElement[bool]]:
    if wanted == "all":
        return []
    if wanted is not None:
        return [images.c.visibility == wanted]
    # Other projects' community images would swamp a list that did not ask for them.
    return [or_(images.c.visibility != Visibility.COMMUNITY, images.c.owner == viewer.project_id)]


def _time(item: TimeFilter) -> ColumnElement[bool]:
    """Users see whole seconds, so a second is compared as a whole."""
    column, start, end = images.c[item.field], item.at_s, item.at_s + 1
    terms: dict[str, ColumnElement[bool]] = {
        "eq": and_(column >= start, column < end),
        "neq": or_(column < start, column >= end),
        "gt": column >= end,
        "gte": column >= start,
        "lt": column < start,
        "lte": column < end,
    }
    return terms[item.operator]


def _key(sort: Sort) -> ColumnElement[Any]:
    """What is sorted by: NULL counts as the lowest value on every database."""
    column = images.c[sort.key]
    if not column.nullable:
        return column
    return func.coalesce(column, "" if isinstance(column.type, String | Text) else -1)


async def _behind(
    connection: AsyncConnection, sorts: Sequence[Sort], marker: str, viewer: Viewer
) -> ColumnElement[bool]:
    keys = [_key(sort) for sort in sorts]
    statement = select(*keys).where(images.c.id == marker, _seen(viewer, "all"))
    row = (await connection.execute(statement)).first()
    if row is None:
        raise Invalid("Invalid marker: the image does not exist")
    terms: list[ColumnElement[bool]] = []
    for index, (sort, key) in enumerate(zip(sorts, keys, strict=True)):
        equal = [before == value for before, value in zip(keys[:index], row[:index], strict=True)]
        terms.append(and_(*equal, key < row[index] if sort.descending else key > row[index]))
    return or_(*terms)
