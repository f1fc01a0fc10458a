"""Projects, and domains: a domain is the root of a tree of projects, and a project itself with `is_domain`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from muster.base.errors import Invalid

MAX_TAGS = 80
NAME_MAX = 64  # of projects and domains, as in Keystone
_TAG = re.compile(r"[^,/]{1,255}")
# The attributes by which lists of them are filtered.
PROJECT_FILTERS = ("id", "name", "domain_id", "parent_id")


class Project(Struct, frozen=True, kw_only=True):
    """A project or a domain; a domain has neither `domain_id` nor `parent_id`.

    A project's `parent_id` is another project, or its domain when it stands at the top.
    """

    id: str
    name: str
    domain_id: str | None
    parent_id: str | None
    is_domain: bool = False
    enabled: bool = True
    description: str = ""
    tags: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags, each once, in order. Raises Invalid for a tag with a comma or slash, or for too many."""
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise Invalid("A tag has 1 to 255 characters, without a comma or a slash")
    unique = tuple(sorted(set(tags)))
    if len(unique) > MAX_TAGS:
        raise Invalid(f"A project has at most {MAX_TAGS} tags")
    return unique


def clean_name(name: str, limit: int = 255) -> str:
    """A name without space around it. Raises Invalid if nothing is left, or more than `limit` characters."""
    name = name.strip()
    if not name:
        raise Invalid("The name is empty")
    if len(name) > limit:
        raise Invalid(f"'{name[:limit]}...' is too long: a name has at most {limit} characters")
    return name
