"""What a list of network resources is asked for: conditions, order, page; fields are those of the domain."""

from msgspec import Struct

from muster.domain.tag_filters import TagFilter


class Condition(Struct, frozen=True):
    """The field has one of the values. Names that are no plain field (`fixed_ip_address`) the store knows."""

    field: str
    values: tuple[object, ...]


class Sort(Struct, frozen=True):
    """One key of the order."""

    field: str
    descending: bool = False


class ListQuery(Struct, frozen=True, kw_only=True):
    """A page of a list: at most `limit` items behind `marker` (an id) in the order; `reverse` gives those before it.

    `limit` None is all. The order always ends with the id, so that it is total.
    """

    conditions: tuple[Condition, ...] = ()
    tags: TagFilter = TagFilter()
    sorts: tuple[Sort, ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False
