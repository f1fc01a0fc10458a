"""The lock service that a URL names.

An adapter is imported when its URL is opened: a cloud on one machine does not carry the libraries of a cluster.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from muster.base.errors import Invalid
from muster.locks.protocol import LockService

_ETCD = ("etcd", "etcds")


async def open_locks(url: str, member_id: str, token_dir: Path) -> LockService:
    """Connect to `etcd://...`, `etcds://...` (see `locks.etcd_settings`) or any URL of Tooz.

    `member_id` names this process to Tooz; `token_dir` keeps the fencing counters of Tooz's locks. Raises Invalid for a
    URL that is not understood, Transient when the service is away.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise Invalid("A lock service is named by a URL: etcd://host:port or a URL of Tooz")
    service: Any
    if scheme in _ETCD:
        settings = import_module("muster.locks.etcd_settings").from_url(url)
        service = import_module("muster.locks.etcd").EtcdLocks(settings)
    else:
        service = import_module("muster.locks.tooz").ToozLocks(url, member_id, token_dir)
    try:
        await service.start()
    except BaseException:
        await service.close()
        raise
    return service  # type: ignore[no-any-return]
