"""Filters by tags in SQL, for every table of tags: one column names the tagged thing, `tag` is the tag."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, distinct, func, select

from muster.domain.tag_filters import TagFilter
from muster.store.dialects import among


def tag_conditions(tagged: Column[str], owner: Column[str], wanted: TagFilter) -> list[ColumnElement[bool]]:
    """The filter's conditions on `tagged`, the ids listed; `owner` holds ids in the table of tags."""
    terms: list[ColumnElement[bool]] = []
    if wanted.all_of:
        terms.append(tagged.in_(_with_all(owner, wanted.all_of)))
    if wanted.any_of:
        terms.append(tagged.in_(_with_any(owner, wanted.any_of)))
    if wanted.not_all_of:
        terms.append(tagged.not_in(_with_all(owner, wanted.not_all_of)))
    if wanted.not_any_of:
        terms.append(tagged.not_in(_with_any(owner, wanted.not_any_of)))
    return terms


def _with_any(owner: Column[str], names: Sequence[str]) -> Select[Any]:
    return select(owner).where(among(owner.table.c.tag, names))


def _with_all(owner: Column[str], names: Sequence[str]) -> Select[Any]:
    found = func.count(distinct(owner.table.c.tag))
    return _with_any(owner, names).group_by(owner).having(found == len(set(names)))
