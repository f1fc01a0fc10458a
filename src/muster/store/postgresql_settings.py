"""Where PostgreSQL is and how it is used, as one URL says it."""

from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

from muster.base.errors import Invalid

_SCHEMES = frozenset({"postgresql", "postgres"})
# What PostgreSQL's own URLs say and the driver understands (libpq's connection parameters).
_DRIVERS = frozenset(
    {"host", "port", "user", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword"}
)

Seconds = Annotated[float, Meta(gt=0)]
WholeSeconds = Annotated[int, Meta(gt=0)]


class PostgresSettings(Struct, frozen=True, kw_only=True):
    """`dsns` has one URL of the driver's per server; the one that takes writes is used. Times in seconds.

    - `connections`: at most so many from this process. What is asked of the database at once is a batch per noun, the
      dispatcher, the reports and some reads: 8 do not wait for each other, and 10 workers fit PostgreSQL's usual 100.
    - `queue_s`: who waits longer than this for one of them is told to come again.
    - `connect_s`: a server that does not take a connection in this time is left for the next.
    - `silence_s`: a connection on which nothing comes through, not even TCP's probes, is given up after this time, on
      both ends; so a firewall that forgot it costs no more.
    - `stopped_s`: PostgreSQL ends a transaction that asks nothing for so long: its process stands still.
    - `statement_s`: PostgreSQL ends a statement that takes longer. More than `stopped_s`, so that whoever waits for a
      row of a process that stands still gets it; the driver gives up a little later, should PostgreSQL stand still.
    - `patience_s`: how long a request waits for a database that has gone away; clients wait for an answer for a minute
      or longer. In a longer absence all are told at once to come again.
    - `doubt_s`: how long it is tried to find out whether a commit that got no answer was made.
    """

    dsns: tuple[str, ...]
    connections: Annotated[int, Meta(gt=1)] = 8
    queue_s: Seconds = 20.0
    connect_s: Seconds = 3.0
    silence_s: Annotated[int, Meta(ge=3)] = 15
    stopped_s: Seconds = 30.0
    statement_s: Seconds = 60.0
    patience_s: Annotated[float, Meta(ge=0)] = 20.0
    doubt_s: Seconds = 60.0

    def __repr__(self) -> str:
        return f"PostgresSettings({len(self.dsns)} servers)"  # for logs: no password

    def server_settings(self) -> dict[str, str]:
        """What each connection asks of the server."""
        part_s = max(1, self.silence_s // 4)
        return {
            "application_name": "muster",
            "idle_in_transaction_session_timeout": _ms(self.stopped_s),
            "statement_timeout": _ms(self.statement_s),
            "tcp_keepalives_idle": str(part_s),
            "tcp_keepalives_interval": str(part_s),
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": _ms(self.silence_s),
        }


_OPTIONS = frozenset(PostgresSettings.__struct_fields__) - {"dsns"}


def from_url(url: str, **fields: object) -> PostgresSettings:
    """`postgresql://[user[:password]@]host[:port][,host[:port]...]/name[?connections=..&patience_s=..&sslmode=..]`.

    `host` may be an option as well: the folder of a socket. Raises Invalid.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise Invalid("The database's URL must begin with sqlite:// or postgresql://")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    options = {name: value for name, value in given.items() if name not in _OPTIONS}
    if unknown := options.keys() - _DRIVERS:
        raise Invalid(f"The database's URL has options that do not exist: {', '.join(sorted(unknown))}")
    credentials, at, hosts = parts.netloc.rpartition("@")
    query = urlencode(options)
    dsns = tuple(
        urlunsplit(("postgresql", credentials + at + host, parts.path, query, "")) for host in hosts.split(",")
    )
    ours = {name: value for name, value in given.items() if name in _OPTIONS}
    try:
        return msgspec.convert({**ours, **fields, "dsns": dsns}, PostgresSettings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The database's URL is not right: {error}") from error


def _ms(seconds: float) -> str:
    return str(int(seconds * 1_000))
