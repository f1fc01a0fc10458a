"""Kinds of columns that many tables share."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, String, Text

#: How PostgreSQL stores a table whose rows are each changed soon after they are made, in no column of an index: with
#: room for the new version, a little longer, beside the old one. Then it needs no entry in any index (a HOT update).
CHANGED_ONCE = {"fillfactor": 45}


def identity_column() -> Column[Any]:
    """A primary key that holds a UUID (or, in identity, its 32 digits)."""
    return Column("id", String(64), primary_key=True)


def reference(name: str, *arguments: Any, **options: Any) -> Column[Any]:
    """A column that holds another row's id."""
    return Column(name, String(64), *arguments, **options)


def text(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    """A text of any length; its limits are the API's."""
    return Column(name, Text, nullable=nullable, default=default)


def integer(name: str, *, nullable: bool = False, default: int | None = None) -> Column[Any]:
    """A number that fits 32 bits."""
    return Column(name, Integer, nullable=nullable, default=default)


def counter(name: str) -> Column[Any]:
    """A number that only grows (64 bits), from 0."""
    return Column(name, BigInteger, nullable=False, default=0)


def flag(name: str, *, default: bool = False) -> Column[Any]:
    """A truth value."""
    return Column(name, Boolean, nullable=False, default=default)


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    """Unix seconds."""
    return Column(name, Float(53), nullable=nullable)


def document(name: str, *, default: Any = dict) -> Column[Any]:
    """A JSON value that is read and written whole."""
    return Column(name, JSON, nullable=False, default=default)
