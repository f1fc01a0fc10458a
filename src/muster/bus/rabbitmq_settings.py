"""Where RabbitMQ is and how it is used, as one URL says it."""

import ssl
from typing import Annotated
from urllib.parse import quote, unquote

from msgspec import Meta, Struct
from pamqp.common import FieldValue
from yarl import URL

from muster.base import cluster_url
from muster.domain.messages import CONTROL_TOPIC

_PORTS = {"amqp": 5672, "amqps": 5671}
_DAY_MS = 86_400_000
SINGLE_READER = "x-single-active-consumer"

Seconds = Annotated[float, Meta(gt=0)]
Number = Annotated[int, Meta(gt=0)]


class RabbitSettings(Struct, frozen=True, kw_only=True):
    """Times in seconds. A link on which nothing comes through is given up after `silence_s`, by TCP, or at the latest
    after three heartbeats. A queue that gives its reader no answer for `stuck_s` is made anew; every `check_s` a reader
    looks whether it is one still. A topic holds up to `max_messages` of up to `max_bytes` together.
    """

    endpoints: tuple[str, ...]
    tls: bool = False
    user: str = "guest"
    password: str = "guest"  # noqa: S105 - what RabbitMQ itself begins with, from loopback only
    vhost: str = "/"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    prefix: str = "muster."
    heartbeat_s: Annotated[int, Meta(gt=0, lt=65535)] = 10
    silence_s: Annotated[int, Meta(ge=3)] = 15
    connect_s: Seconds = 5.0
    publish_s: Seconds = 10.0
    stuck_s: Seconds = 60.0
    check_s: Seconds = 30.0
    backoff_s: Seconds = 10.0
    prefetch: Annotated[int, Meta(gt=0, lt=65536)] = 1_000
    max_messages: Number = 100_000
    max_bytes: Number = 1 << 28

    def __repr__(self) -> str:
        return f"RabbitSettings({', '.join(self.endpoints)})"  # for logs: no password

    def broker_url(self, endpoint: str) -> URL:
        """The URL of one broker, for the client library."""
        userinfo = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        path = "/" if self.vhost == "/" else "/" + quote(self.vhost, safe="")
        scheme = "amqps" if self.tls else "amqp"
        return URL(f"{scheme}://{userinfo}@{endpoint}{path}?heartbeat={self.heartbeat_s}", encoded=True)

    def tls_context(self) -> ssl.SSLContext | None:
        """What a connection is made with; None without TLS. Reads files."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def queue_arguments(self, topic: str) -> dict[str, FieldValue]:
        """How the queue of a topic is made.

        The topic that all hosts write to refuses what is too much: who reports slows down. Of its readers one at a time
        gets all; RabbitMQ gives it to the next when that one has gone. A host's own topic drops its oldest: one host
        that does not read must not hold up who writes to all, and its queue goes with it.
        """
        arguments: dict[str, FieldValue] = {
            "x-queue-type": "quorum",
            "x-max-length": self.max_messages,
            "x-max-length-bytes": self.max_bytes,
        }
        if topic == CONTROL_TOPIC:
            return {**arguments, "x-overflow": "reject-publish", SINGLE_READER: True}
        return {**arguments, "x-overflow": "drop-head", "x-expires": _DAY_MS}


_OPTIONS = frozenset(RabbitSettings.__struct_fields__) - {"endpoints", "tls", "user", "password", "vhost"}


def from_url(url: str) -> RabbitSettings:
    """`amqp://[user:password@]host[:port][,host[:port]...][/vhost][?heartbeat_s=..&silence_s=..&...]`.

    `amqps://` is the same with TLS, and takes `ca_file`, `cert_file` and `key_file`. Raises Invalid.
    """
    parts = cluster_url.parse(url, _PORTS)
    fields: dict[str, object] = {"endpoints": parts.endpoints, "tls": parts.scheme == "amqps"}
    if parts.user is not None:
        fields |= {"user": parts.user, "password": parts.password}
    if len(parts.path) > 1:
        fields["vhost"] = unquote(parts.path[1:])
    return cluster_url.settings(RabbitSettings, parts, _OPTIONS, **fields)
