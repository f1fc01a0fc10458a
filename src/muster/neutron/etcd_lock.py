"""etcd's own lock service, asked over its HTTP gateway: waiting is done by the server, in the order of asking.

Source: etcd's API reference, `v3lock` and `Lease` (gRPC gateway, `/v3/...`). Synchronous and without a thread of its
own: a lock is held for one short transaction, far less than its lease, so nothing needs to be renewed meanwhile. Three
round trips: a lease, the lock, the lease's end.
"""

import base64
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import urllib3

from muster.base.errors import Invalid, Transient
from muster.locks.etcd_settings import EtcdSettings

_UNAUTHENTICATED = 401
_OK = 200
_UNFIT = 500
_EXISTS = 9  # gRPC's FAILED_PRECONDITION


class EtcdLocks:
    """See `muster.neutron.locks.Locks`. Raises Invalid for certificate files that cannot be used."""

    def __init__(self, settings: EtcdSettings, lease_s: int, wait_s: float) -> None:
        self._settings = settings
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._http = urllib3.PoolManager(maxsize=32, retries=False, **_tls(settings))
        self._guard = threading.Lock()
        self._endpoints = list(settings.endpoints)
        self._token: str | None = None

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        lease = self._take(f"{self._settings.prefix}/{name}")
        try:
            yield
        finally:
            self._end(lease)

    def _take(self, name: str) -> str:
        """Wait for the lock; the lease that it hangs on. Queues again when the wait outlived the lease."""
        deadline = time.monotonic() + self._wait_s
        while True:
            lease = str(secrets.randbits(62) + 1)
            asked = time.monotonic()
            self._ask("lease/grant", {"TTL": self._lease_s, "ID": lease})
            try:
                body = {"name": base64.b64encode(name.encode()).decode(), "lease": lease}
                self._ask("lock/lock", body, timeout_s=self._lease_s)
                if time.monotonic() - asked < self._lease_s / 2 or self._renew(lease):
                    return lease
            except _TimeOut:
                if time.monotonic() > deadline:
                    self._end(lease)  # etcd may have given the lock in this very moment
                    raise
            self._end(lease)

    def _end(self, lease: str) -> None:
        with suppress(Transient):  # then it runs out by itself
            self._ask("lease/revoke", {"ID": lease})

    def _renew(self, lease: str) -> bool:
        """Whether the lease was still there; then it begins anew."""
        answer = self._ask("lease/keepalive", {"ID": lease})
        return int(answer.get("result", answer).get("TTL", 0)) > 0

    def _ask(self, what: str, body: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """One request; the members are tried in turn. Raises Transient."""
        trouble: Exception = Transient("etcd has no members")
        for endpoint in list(self._endpoints):
            try:
                return self._ask_member(endpoint, what, body, timeout_s or self._settings.try_s)
            except urllib3.exceptions.ReadTimeoutError as error:
                if timeout_s is not None:
                    raise _TimeOut(f"The lock could not be had: others hold it, or etcd is slow ({what})") from error
                trouble = error
            except (urllib3.exceptions.HTTPError, _Unfit) as error:
                trouble = error
            with self._guard:  # the next request begins with another member
                if self._endpoints[0] == endpoint:
                    self._endpoints.append(self._endpoints.pop(0))
        raise Transient(f"etcd does not answer: {trouble}") from trouble

    def _ask_member(self, endpoint: str, what: str, body: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        status, answer = self._post(endpoint, what, body, timeout_s)
        if self._settings.user is not None and status in (_UNAUTHENTICATED, 400):  # no token yet, or an old one
            credentials = {"name": self._settings.user, "password": self._settings.password or ""}
            status, answer = self._post(endpoint, "auth/authenticate", credentials, timeout_s)
            self._token = answer.get("token")
            status, answer = self._post(endpoint, what, body, timeout_s)
        if status >= _UNFIT:
            raise _Unfit(f"{endpoint} cannot serve: {answer.get('message') or answer.get('error') or status}")
        # A lease that is there already is this one: a member that was left for being slow has made it all the same.
        if status == _OK or (what == "lease/grant" and answer.get("code") == _EXISTS):
            return answer
        raise Transient(f"etcd refuses {what}: {answer.get('message') or answer.get('error') or status}")

    def _post(self, endpoint: str, what: str, body: Mapping[str, Any], timeout_s: float) -> tuple[int, dict[str, Any]]:
        scheme = "https" if self._settings.tls else "http"
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = self._token
        timeout = urllib3.Timeout(connect=self._settings.try_s, read=timeout_s)
        url = f"{scheme}://{endpoint}/v3/{what}"
        answer = self._http.request("POST", url, body=json.dumps(body), headers=headers, timeout=timeout)
        try:
            return answer.status, json.loads(answer.data.decode())
        except ValueError:
            return answer.status, {}


class _Unfit(Exception):
    """A member answers that it cannot do it: it is cut off from the others and knows no leader, say."""


class _TimeOut(Transient):
    """The lock was not to be had in time."""


def _tls(settings: EtcdSettings) -> dict[str, Any]:
    if not settings.tls:
        return {}
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(f"the certificate files of lock_url cannot be used: {error}") from error
    return {"ssl_context": context}
