"""Migrations: how a database's schema came to be what the tables in `store` say, one revision after the other.

`scripts/migration` writes them; `store.schema` runs them. HEAD names the newest, so that a process whose database is
there already starts without loading Alembic. A test keeps HEAD, the revisions and the tables in step.
"""

HEAD = "b84f1c0d92e3"
