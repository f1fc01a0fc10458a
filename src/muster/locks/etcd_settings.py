"""Where an etcd cluster is and how it is asked, as one URL says it."""

from typing import Annotated

from msgspec import Meta, Struct

from muster.base import cluster_url

_PORTS = {"etcd": 2379, "etcds": 2379}
_OPTIONS = frozenset({"ca_file", "cert_file", "key_file", "lease_s", "try_s", "away_s"})

Seconds = Annotated[float, Meta(gt=0)]


class EtcdSettings(Struct, frozen=True, kw_only=True):
    """`endpoints` are `host:port`. Times in seconds: a holder that is silent for `lease_s` has lost its locks; a member
    that does not answer within `try_s` is left for the next; after `away_s` without an answer etcd is away.
    """

    endpoints: tuple[str, ...]
    tls: bool = False
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    prefix: str = "/muster/locks"
    lease_s: Annotated[int, Meta(gt=0)] = 10
    try_s: Seconds = 2.0
    away_s: Seconds = 6.0

    def __repr__(self) -> str:
        return f"EtcdSettings({', '.join(self.endpoints)})"  # for logs: no password


def from_url(url: str) -> EtcdSettings:
    """`etcd://[user:password@]host[:port][,host[:port]...][/prefix][?lease_s=..&try_s=..&away_s=..]`.

    `etcds://` is the same with TLS, and takes `ca_file`, `cert_file` and `key_file`. Raises Invalid.
    """
    parts = cluster_url.parse(url, _PORTS)
    path = parts.path.strip("/")
    return cluster_url.settings(
        EtcdSettings,
        parts,
        _OPTIONS,
        endpoints=parts.endpoints,
        tls=parts.scheme == "etcds",
        user=parts.user,
        password=parts.password,
        prefix=f"/{path}" if path else "/muster/locks",
    )
