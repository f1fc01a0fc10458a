"""The settings file of a cluster's processes: TOML, private because it holds passwords, and understood as a whole.

Invariant: nothing is guessed. What is not known, not of its type or out of its range is refused, by its name; and no
refusal shows a value that may hold a password.
"""

import os
import stat
import tomllib
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from muster.base.cluster_url import parse as parse_cluster_url
from muster.base.errors import Invalid
from muster.bus.rabbitmq_settings import from_url as check_bus_url
from muster.domain.addresses import REST_S
from muster.domain.placement import Overcommit, Strategy
from muster.host.agent import AgentSettings
from muster.host.boot_settings import AUTOMATIC, UNLIMITED, check_boots
from muster.host.ksm import KsmMode
from muster.host.lease_time import LEASE_S, SHORTEST_LEASE_S
from muster.host.ports import KEEP_UNKNOWN_S
from muster.locks.etcd_settings import from_url as check_etcd_url
from muster.services import deleted_servers, instance_actions

_SECRET_MIN = 32
_PREVIOUS_MAX = 3
#: In the examples under deploy/, whose secret everybody knows.
_PLACEHOLDER = "CHANGE-ME"
_HANG_MIN_S = 5.0
_URL_MAX = 255
_SECRET = f"at least {_SECRET_MIN} characters drawn at random, such as openssl rand -hex 32 prints"
_OTHERS = stat.S_IRWXO | stat.S_IWGRP

Port = Annotated[int, Meta(ge=0, le=65_535)]
Share = Annotated[float, Meta(ge=0.1, le=100)]


class EnginesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[engines]`: what all processes of the cluster share. The URLs may hold passwords."""

    database_url: str = ""
    locks_url: str = ""
    bus_url: str = ""

    def __repr__(self) -> str:
        return "EnginesSettings(...)"


class ServeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[serve]`: this machine's API workers. `public_url` is where clients reach the cluster, if not here.

    `image_url` is where other control machines reach this one for images, if they have folders of their own, which
    together have `image_copies` of each.
    """

    bind: str = "127.0.0.1"
    port: Port = 8774
    workers: Annotated[int, Meta(ge=1, le=256)] = 2
    public_url: str = ""
    metrics_port: Port = 0
    metrics_bind: str = "127.0.0.1"
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    hang_s: Annotated[float, Meta(ge=0)] = 60.0
    placement: Strategy = Strategy.SPREAD
    cpu_overcommit: Share = Overcommit().cpu
    ram_overcommit: Annotated[float, Meta(ge=0.1, le=10)] = Overcommit().ram
    default_zone: str = ""
    address_rest_s: Annotated[float, Meta(ge=0, le=604_800)] = REST_S
    keep_deleted_s: Annotated[float, Meta(ge=0)] = deleted_servers.KEEP_S
    keep_actions_s: Annotated[float, Meta(ge=0)] = instance_actions.KEEP_S
    guest_image: str = ""
    image_url: str = ""
    image_copies: Annotated[int, Meta(ge=1, le=100)] = 2


class HostSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[host]`: this machine as a host. `host_ip` is how other hosts reach it, and its end of their overlay; `boots`
    is how many guests boot at a time.

    `keep_unknown_s`: how long the disk of a guest is kept that the database does not know.
    `lease_time_s`: how long a guest's DHCP lease lasts.
    `ksm`: merge equal pages of guests always (`on`), while memory is scarce (`auto`), or as others manage it (`off`).
    """

    api_url: str = ""
    host_ip: str = "127.0.0.1"
    zone: str = "nova"
    cpu_overcommit: Share = Overcommit().cpu
    ksm: KsmMode = KsmMode.AUTO
    stray_grace_s: Annotated[float, Meta(ge=0)] = AgentSettings().stray_grace_s
    keep_unknown_s: Annotated[float, Meta(ge=0)] = KEEP_UNKNOWN_S
    boots: str = AUTOMATIC
    lease_time_s: Annotated[int, Meta(ge=SHORTEST_LEASE_S)] = LEASE_S
    metrics_port: Port = 0
    metrics_bind: str = "127.0.0.1"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. `secret` is the same on all machines with workers; other secrets are derived from it.

    `previous_secrets` are still accepted, while `secret` is replaced.
    """

    folder: Path
    secret: str = ""
    previous_secrets: tuple[str, ...] = ()
    admin_password: str = ""
    engines: EnginesSettings = EnginesSettings()
    serve: ServeSettings = ServeSettings()
    host: HostSettings = HostSettings()

    def __repr__(self) -> str:
        return f"Settings({self.folder})"


def read_settings(path: Path) -> Settings:
    """The settings of a file, as far as they can be judged without knowing which command wants them. Raises Invalid."""
    try:
        values = tomllib.loads(_private_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not TOML: {error}") from error
    with _Naming(path):
        _check_names(values, Settings, "")
        settings = _converted(values)
        _check_values(settings)
    return settings


def require_serve(settings: Settings, path: Path) -> None:
    """What `muster serve` cannot do without is there. Raises Invalid."""
    engines = settings.engines
    with _Naming(path):
        _require(len(settings.secret) >= _SECRET_MIN, "secret", _SECRET)
        _require(
            engines.database_url.startswith("postgresql://"), "engines.database_url", "postgresql://user@host/name"
        )
        _require(engines.locks_url != "", "engines.locks_url", "etcd://host:2379, or any URL of Tooz")
        _require(engines.bus_url != "", "engines.bus_url", "amqp://user:password@host/vhost")


def require_host(settings: Settings, path: Path, *, is_real: bool) -> None:
    """What `muster host` cannot do without is there; `is_real`: with real guests. Raises Invalid."""
    with _Naming(path):
        _require(settings.engines.bus_url != "", "engines.bus_url", "amqp://user:password@host/vhost")
        if is_real:
            _require(settings.host.api_url != "", "host.api_url", "where images come from: http://host:8774")


class _Refused(Exception):
    """A setting and what is wrong with it."""


class _Naming:
    """Refusals name the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _Refused):
            raise Invalid(f"{self._path}: {error}") from None


def _private_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS:
                raise Invalid(
                    f"{path} holds passwords, and its mode {stat.S_IMODE(mode):04o} opens it to others than its owner "
                    f"and their group; run: chmod 600 {path}"
                )
            return file.read().decode()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error


def _check_names(values: dict[str, Any], kind: Any, prefix: str) -> None:
    """All names are known: said here because a name that is wrong is better shown with those that are right."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in values.items():
        if name not in fields:
            where = f"[{prefix.rstrip('.')}] has" if prefix else "there are"
            raise _Refused(f"{prefix}{name}: no such setting; {where} {', '.join(fields)}")
        inner = fields[name]
        if isinstance(inner, type) and issubclass(inner, Struct):
            if not isinstance(value, dict):
                raise _Refused(f"{name}: is a section; write [{name}] and its settings below it")
            _check_names(value, inner, f"{name}.")


def _converted(values: dict[str, Any]) -> Settings:
    try:
        return msgspec.convert(values, Settings, dec_hook=_path)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        field = where.rstrip("`")
        if not field:  # a whole setting is missing
            raise _Refused('folder: is missing; for example folder = "/var/lib/muster"') from error
        raise _Refused(f"{field}: {what[0].lower()}{what[1:]}") from error


def _path(_kind: object, value: object) -> Path:
    if not isinstance(value, str):
        raise ValueError("Expected `str`, a path")
    return Path(value)


def _check_values(settings: Settings) -> None:
    engines, serve, host = settings.engines, settings.serve, settings.host
    _require(settings.folder.is_absolute(), "folder", "a path that begins with /")
    if settings.secret:
        _require(len(settings.secret) >= _SECRET_MIN, "secret", _SECRET)
        _require(_PLACEHOLDER not in settings.secret, "secret", _SECRET)
    if settings.previous_secrets:
        right = len(settings.previous_secrets) <= _PREVIOUS_MAX
        right = right and all(len(one) >= _SECRET_MIN for one in settings.previous_secrets)
        _require(right, "previous_secrets", f"a list of one to {_PREVIOUS_MAX} secrets, each {_SECRET}")
        _require(
            settings.admin_password != "",
            "admin_password",
            "the password of clouds.yaml: without it, it is derived from `secret`, which is being replaced",
        )
    if engines.database_url:
        _check_by(_check_database_url, engines.database_url, "engines.database_url")
    if engines.locks_url:
        _require("://" in engines.locks_url, "engines.locks_url", "etcd://host:2379, or any URL of Tooz")
        if engines.locks_url.startswith(("etcd://", "etcds://")):
            _check_by(check_etcd_url, engines.locks_url, "engines.locks_url")
    if engines.bus_url:
        _check_by(check_bus_url, engines.bus_url, "engines.bus_url")
    try:
        check_boots(host.boots)
    except Invalid:
        _require(False, "host.boots", f'"{AUTOMATIC}", "{UNLIMITED}" or a number as text: "4"')
    urls = {"serve.public_url": serve.public_url, "serve.image_url": serve.image_url, "host.api_url": host.api_url}
    for field, url in urls.items():
        _require(not url or _is_http(url), field, "http://host:port or https://host")
    _require(len(serve.image_url) <= _URL_MAX, "serve.image_url", f"at most {_URL_MAX} characters")
    addresses = {
        "serve.bind": serve.bind,
        "serve.metrics_bind": serve.metrics_bind,
        "host.host_ip": host.host_ip,
        "host.metrics_bind": host.metrics_bind,
    }
    for field, address in addresses.items():
        _require(_is_address(address), field, "an IP address of this machine")
    _require(not 0 < serve.hang_s < _HANG_MIN_S, "serve.hang_s", f"0, or at least {_HANG_MIN_S:.0f}")
    _require(serve.metrics_port + serve.workers <= 65_536, "serve.metrics_port", "a port with room for all workers")
    if serve.guest_image:
        _require(Path(serve.guest_image).is_file(), "serve.guest_image", "the path of an image that is there")


def _require(holds: bool, field: str, right: str) -> None:
    if not holds:
        raise _Refused(f"{field}: is missing or not right; expected {right}")


def _check_by(parse: Callable[[str], object], url: str, field: str) -> None:
    try:
        parse(url)
    except (Invalid, ValueError) as error:
        raise _Refused(f"{field}: {error.message if isinstance(error, Invalid) else 'not a URL'}") from error


def _check_database_url(url: str) -> None:
    """Raises Invalid, ValueError. A URL without a host is a socket's of this machine."""
    if urlsplit(url).scheme != "postgresql" or urlsplit(url).netloc.rpartition("@")[2]:
        parse_cluster_url(url, {"postgresql": 5432})


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
