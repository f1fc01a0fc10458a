"""Where an etcd cluster is and how it is asked, as one URL says it."""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from muster.base.errors import Invalid

DEFAULT_PORT: Final = 2379


class EtcdSettings(msgspec.Struct, frozen=True, kw_only=True):
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
    lease_s: int = 10
    try_s: float = 2.0
    away_s: float = 6.0

    def __repr__(self) -> str:
        return f"EtcdSettings({', '.join(self.endpoints)})"  # for logs: no password


def from_url(url: str) -> EtcdSettings:
    """`etcd://[user:password@]host[:port][,host[:port]...][/prefix][?lease_s=..&try_s=..&away_s=..]`.

    `etcds://` is the same with TLS, and takes `ca_file`, `cert_file` and `key_file`. Raises Invalid.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("etcd", "etcds"):
        raise Invalid("An etcd URL begins with etcd:// or etcds://")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    fields: dict[str, object] = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {"endpoints", "tls", "user", "password", "prefix"}
    if unknown := (fields.keys() & own) | (fields.keys() - set(EtcdSettings.__struct_fields__)):
        raise Invalid(f"An etcd URL has no option {', '.join(sorted(unknown))}")
    fields |= {"endpoints": tuple(map(_endpoint, hosts.split(","))), "tls": parts.scheme == "etcds"}
    if user:
        fields |= {"user": unquote(user), "password": unquote(password)}
    if parts.path.strip("/"):
        fields["prefix"] = "/" + parts.path.strip("/")
    try:
        settings = msgspec.convert(fields, EtcdSettings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The etcd URL is not right: {error}") from error
    if min(settings.lease_s, settings.try_s, settings.away_s) <= 0:
        raise Invalid("The times in an etcd URL must be above 0")
    return settings


def _endpoint(host: str) -> str:
    """`host:port` of one member; an IPv6 address stands in brackets."""
    name, separator, port = host.rpartition(":")
    if not separator or host.endswith("]"):
        name, port = host, str(DEFAULT_PORT)
    if not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"{host!r} is not host:port")
    return f"{name}:{port}"
