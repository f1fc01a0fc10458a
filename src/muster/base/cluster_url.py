"""URLs that name several machines: `scheme://[user:password@]host[:port][,host[:port]...][/path][?option=value]`."""

from collections.abc import Collection
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from muster.base.errors import Invalid

Settings = TypeVar("Settings", bound=msgspec.Struct)


class ClusterUrl(msgspec.Struct, frozen=True):
    """The parts of such a URL, unquoted; `endpoints` are `host:port`, `path` begins with a slash or is empty."""

    scheme: str
    user: str | None
    password: str | None
    endpoints: tuple[str, ...]
    path: str
    options: dict[str, str]

    def __repr__(self) -> str:
        return f"{self.scheme}://{','.join(self.endpoints)}{self.path}"  # for logs: no password


def parse(url: str, default_ports: dict[str, int]) -> ClusterUrl:
    """Take such a URL apart; `default_ports` has the port of each scheme that is right. Raises Invalid."""
    parts = urlsplit(url)
    if parts.scheme not in default_ports:
        raise Invalid(f"The URL must begin with {' or '.join(f'{scheme}://' for scheme in default_ports)}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    port = default_ports[parts.scheme]
    return ClusterUrl(
        scheme=parts.scheme,
        user=unquote(user) if user else None,
        password=unquote(password) if user else None,
        endpoints=tuple(_endpoint(host, port) for host in hosts.split(",")),
        path=parts.path,
        options=dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def settings(kind: type[Settings], url: ClusterUrl, allowed: Collection[str], **fields: object) -> Settings:
    """A `kind` of `fields` and of the URL's options, of which only those named in `allowed` may be. Raises Invalid."""
    if unknown := url.options.keys() - set(allowed):
        raise Invalid(f"The URL has options that do not exist: {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert({**url.options, **fields}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"The URL is not right: {error}") from error


def _endpoint(host: str, default_port: int) -> str:
    """`host:port` of one machine; an IPv6 address stands in brackets."""
    name, separator, port = host.rpartition(":")
    if not separator or host.endswith("]"):
        name, port = host, str(default_port)
    if not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid(f"{host!r} is not host:port")
    return f"{name}:{port}"
