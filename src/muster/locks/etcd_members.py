"""The members of an etcd cluster over gRPC: one is asked until it fails, then the next.

Invariants: every request has a deadline; what is sent through `Members.ask` may be carried out twice, because an answer
may be lost on the way; errors of gRPC leave here as Transient, but for the few that are an answer (`ANSWERS`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from aetcd import rpc
from grpc import StatusCode

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.locks.etcd_settings import EtcdSettings

log = get_logger(__name__)

Result = TypeVar("Result")

# What etcd says about leases and revisions rather than about itself.
ANSWERS = frozenset({StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION, StatusCode.OUT_OF_RANGE})
_REFUSALS = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.INVALID_ARGUMENT})
_PAUSE_S = 0.1
_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),  # finds a link that died while a watch waits; etcd allows one in 5 s
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class Refused(Transient):
    """etcd answers, and does not let us in: credentials or permissions are not what it expects."""

    code = "locks.refused"


class Member:
    """One member. Raises grpc.aio.AioRpcError as gRPC does."""

    def __init__(self, endpoint: str, settings: EtcdSettings, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self._settings = settings
        self._channel = channel
        self._kv = rpc.KVStub(channel)
        self._lease = rpc.LeaseStub(channel)
        self._watch = rpc.WatchStub(channel)
        self._auth = rpc.AuthStub(channel)
        self._token: str | None = None
        self._logging_in = asyncio.Lock()  # one asks for a token, the others wait for it: passwords cost etcd much

    async def transact(self, request: Any) -> Any:
        """One transaction."""
        return await self._kv.Txn(request, timeout=self._settings.try_s, metadata=await self._metadata())

    async def range(self, request: Any) -> Any:
        """One linearizable read."""
        return await self._kv.Range(request, timeout=self._settings.try_s, metadata=await self._metadata())

    async def grant(self, lease_id: int, ttl_s: int) -> int:
        """Make a lease; returns its time to live, which may be longer than asked for."""
        request = rpc.LeaseGrantRequest(ID=lease_id, TTL=ttl_s)
        answer = await self._lease.LeaseGrant(request, timeout=self._settings.try_s, metadata=await self._metadata())
        return int(answer.TTL)

    async def revoke(self, lease_id: int) -> None:
        """End a lease and all its keys."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        await self._lease.LeaseRevoke(request, timeout=self._settings.try_s, metadata=await self._metadata())

    async def keep_alive(self, lease_id: int) -> int:
        """Renew a lease; returns its time to live, 0 when there is no such lease any more."""
        call = self._lease.LeaseKeepAlive(timeout=self._settings.try_s, metadata=await self._metadata())
        try:
            await call.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise Transient("etcd ended a renewal without an answer")
            return int(answer.TTL)
        finally:
            call.cancel()

    async def deleted(self, key: bytes, revision: int) -> bool:
        """Wait until `key` is deleted at or after `revision`; False when etcd ends the watch for another reason."""
        call = self._watch.Watch(metadata=(*await self._metadata(), ("hasleader", "true")))
        create = rpc.WatchCreateRequest(key=key, start_revision=revision, filters=[rpc.WatchCreateRequest.NOPUT])
        try:
            await call.write(rpc.WatchRequest(create_request=create))
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.events:
                    return True
                if answer.canceled:
                    return False
            return False
        finally:
            call.cancel()

    def forget_token(self) -> None:
        """Ask for a token anew at the next request."""
        self._token = None

    async def close(self) -> None:
        await self._channel.close()

    async def _metadata(self) -> tuple[tuple[str, str], ...]:
        if self._settings.user is None:
            return ()
        async with self._logging_in:
            token = self._token
            if token is None:
                request = rpc.AuthenticateRequest(name=self._settings.user, password=self._settings.password or "")
                token = self._token = str((await self._auth.Authenticate(request, timeout=self._settings.try_s)).token)
        return (("token", token),)


class Members:
    """All members. Made and used on one event loop."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._away_s = settings.away_s
        self._members = [Member(endpoint, settings, _channel(endpoint, settings)) for endpoint in settings.endpoints]
        self._index = 0

    @property
    def current(self) -> Member:
        """The member that is asked now."""
        return self._members[self._index]

    def failed(self, member: Member) -> None:
        """Ask the next one from now on, unless another has noticed already."""
        if member is self.current:
            self._index = (self._index + 1) % len(self._members)

    async def ask(self, act: Callable[[Member], Awaitable[Result]]) -> Result:
        """What `act` returns for a member that answers; it may be carried out more than once.

        Raises Transient after `away_s` without an answer, Refused when etcd does not let us in, and AioRpcError when
        its code is in ANSWERS.
        """
        deadline = time.monotonic() + self._away_s
        fresh_token = False
        while True:
            member = self.current
            try:
                return await act(member)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code in ANSWERS:
                    raise
                if code in _REFUSALS:
                    if not fresh_token:  # tokens expire, and a member that restarts forgets those that it gave out
                        fresh_token = True
                        member.forget_token()
                        continue
                    raise Refused(f"etcd refuses the request: {error.details()}", retry_after_s=5.0) from error
                why: str | None = error.details()
                cause: Exception = error
            except Transient as error:
                why, cause = error.message, error
            self.failed(member)
            if time.monotonic() >= deadline:
                raise Transient(f"etcd does not answer: {why}", retry_after_s=1.0) from cause
            await asyncio.sleep(_PAUSE_S)

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members))


def _channel(endpoint: str, settings: EtcdSettings) -> grpc.aio.Channel:
    if not settings.tls:
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    files = (settings.ca_file, settings.key_file, settings.cert_file)
    contents = (Path(name).read_bytes() if name else None for name in files)
    return grpc.aio.secure_channel(endpoint, grpc.ssl_channel_credentials(*contents), options=_OPTIONS)
