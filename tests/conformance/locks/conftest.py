"""Every lock service that Muster runs on: `backend` is each of them in turn, over an engine of this test process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from muster.locks.open import open_locks
from muster.locks.protocol import LockService

LEASE_S = 2
#: A lease that does not run out, however busy the machine, where that is not what is tested.
LONG_S = 60
#: How long etcd may be away before it is told, where that is not what is tested.
PATIENT = "away_s=240"

_names = count()


class Backend:
    """One engine. `locks` opens a service as another process would; `url_for` and `tokens` say how."""

    def __init__(self, url: str, tokens: Path) -> None:
        self._url = url
        self.has_leases = not url.startswith("file:")
        self.tokens = tokens
        self._opened: list[LockService] = []

    def url_for(self, lease_s: int) -> str:
        """With leases of this length, if it has any."""
        url = self._url
        for option in ("lease_s", "lock_timeout", "membership_timeout"):
            url = url.replace(f"{option}={LEASE_S}", f"{option}={lease_s}")
        return url

    async def locks(self, lease_s: int = LONG_S) -> LockService:
        service = await open_locks(self.url_for(lease_s), f"member-{next(_names)}", self.tokens)
        self._opened.append(service)
        return service

    async def close(self) -> None:
        await asyncio.gather(*(service.close() for service in self._opened))


def _file(_request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/locks"


def _redis(request: pytest.FixtureRequest, _tmp_path: Path) -> str:
    return f"redis://127.0.0.1:{request.getfixturevalue('redis').port}?lock_timeout={LEASE_S}"


def _tooz_etcd(request: pytest.FixtureRequest, _tmp_path: Path) -> str:
    [member] = request.getfixturevalue("etcd").members
    return f"etcd3+http://{member.endpoint}?lock_timeout={LEASE_S}&membership_timeout={LEASE_S}&api_version=v3"


def _etcd(request: pytest.FixtureRequest, _tmp_path: Path) -> str:
    return f"etcd://{request.getfixturevalue('etcd').endpoints}?lease_s={LEASE_S}&{PATIENT}"


def _three(request: pytest.FixtureRequest, _tmp_path: Path) -> str:
    return f"etcd://{request.getfixturevalue('three_etcd').endpoints}?lease_s={LEASE_S}&{PATIENT}"


BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], str]] = {
    "tooz-file": _file,
    "tooz-redis": _redis,
    "tooz-etcd": _tooz_etcd,
    "etcd": _etcd,
    "etcd-3": _three,
}


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    opened = Backend(BACKENDS[request.param](request, tmp_path), tmp_path / "tokens")
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())


@pytest.fixture
def name() -> str:
    """A lock that no other test takes."""
    return f"test/{next(_names)}"
