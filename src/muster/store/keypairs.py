"""Keypairs: a user's public keys."""

from sqlalchemy import Column, String, Table

from muster.store.columns import moment, reference, text
from muster.store.engine import metadata

keypairs = Table(
    "keypairs",
    metadata,
    reference("user_id", primary_key=True),
    Column("name", String(255), primary_key=True),
    text("type", default="ssh"),
    text("public_key"),
    text("fingerprint"),
    moment("created_at"),
)
