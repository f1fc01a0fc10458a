"""Which cloud, as whom, and where its services are: clouds.yaml, keystone, the catalog.

Read by openstacksdk's own loader and authenticated by keystoneauth, so that every file and every kind of credential
that works with the `openstack` command works here. Both block, so they run in a thread; only the start and a token's
renewal go through them. Where environment variables count (OS_CLOUD, OS_CLIENT_CONFIG_FILE), that loader reads them.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from enum import StrEnum

import msgspec
from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session
from openstack.config import OpenStackConfig
from openstack.config.cloud_region import CloudRegion
from openstack.exceptions import SDKException

from muster.base.errors import Invalid, MusterError, NotFound, Transient, Unauthenticated
from muster.client.http import tls_context

# A token is asked for again this often; keystoneauth answers from memory until it is about to expire.
TOKEN_CHECK_S = 60.0
# How long keystone may be silent where clouds.yaml does not say it (`api_timeout`); keystoneauth would wait for ever.
KEYSTONE_S = 60.0
_VERSION = re.compile(r"/v\d+(\.\d+)?(/|$)")


class Service(StrEnum):
    """The services that are talked to, by their type in the catalog."""

    COMPUTE = "compute"
    NETWORK = "network"
    IMAGE = "image"


# What is appended where the catalog names a service without its API's version.
_VERSIONS = {Service.COMPUTE: "/v2.1", Service.NETWORK: "/v2.0", Service.IMAGE: "/v2"}


class Cloud(msgspec.Struct, frozen=True):
    """An authenticated cloud. `endpoints` have no slash at the end."""

    name: str
    region: str | None
    endpoints: dict[Service, str]
    tls: ssl.SSLContext
    tokens: "Tokens"


class Tokens:
    """The token of the moment, renewed before it expires, once for all who wait: so is the failure to do so."""

    def __init__(self, session: Session, first: str, now: Callable[[], float]) -> None:
        self._session = session
        self._token = first
        self._now = now
        self._checked_at_s = now()
        self._failure: tuple[float, MusterError] | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> str:
        """A token that is good for the next minute.

        Cost: usually none; a request to keystone when it has to be renewed. Raises Unauthenticated, Transient, or
        Invalid when a file of certificates cannot be read.
        """
        if self._now() - self._checked_at_s < TOKEN_CHECK_S:
            return self._token
        asked_at_s = self._now()
        async with self._lock:
            if self._failure is not None and self._failure[0] > asked_at_s:
                raise self._failure[1]
            if self._now() - self._checked_at_s >= TOKEN_CHECK_S:
                await self._renew()
        return self._token

    async def _renew(self) -> None:
        try:
            self._token = await asyncio.to_thread(_token, self._session)
        except MusterError as error:
            self._failure = self._now(), error
            raise
        self._checked_at_s = self._now()

    def refused(self, token: str) -> None:
        """The cloud did not accept the token: get another before the next request, if that has not been done yet."""
        if token == self._token:
            self._session.invalidate()
            self._checked_at_s = float("-inf")

    def close(self) -> None:
        """Close the connections to keystone."""
        self._session.session.close()


async def connect(name: str | None, config_files: tuple[str, ...], now: Callable[[], float]) -> Cloud:
    """Read clouds.yaml, authenticate, find the endpoints.

    Raises Invalid for a configuration that cannot be used, Unauthenticated when keystone refuses, NotFound for a
    service that the catalog lacks, Transient when keystone does not answer. Cost: one request to keystone, and one more
    to learn its version where the configuration does not say it.
    """
    region = await asyncio.to_thread(_region, name, config_files)
    session, token, endpoints = await asyncio.to_thread(_log_in, region)
    verify, client_cert = region.get_requests_verify_args()
    tls = tls_context(verify=True if verify is None else verify, client_cert=client_cert)
    return Cloud(region.name or "unnamed", region.get_region_name(), endpoints, tls, Tokens(session, token, now))


def _region(name: str | None, config_files: tuple[str, ...]) -> CloudRegion:
    file = None
    try:
        config = OpenStackConfig(
            config_files=list(config_files) or None, load_envvars=not config_files, app_name="muster"
        )
        file = config.config_filename
        return config.get_one(name)
    except Exception as error:  # the loader trusts the file's shape: whatever it raises is about what stands there
        # It passes over a file that is not allowed or not YAML without a word.
        where = file or "clouds.yaml (is there one that can be read, and is it YAML?)"
        raise Invalid(f"{where}: {error}") from error


def _log_in(region: CloudRegion) -> tuple[Session, str, dict[Service, str]]:
    try:
        session = region.get_session()
    except (SDKException, keystone_errors.ClientException, ValueError) as error:
        raise Invalid(f"cloud {region.name}: {error}") from error
    if session.timeout is None:
        session.timeout = KEYSTONE_S
    token = _token(session)
    try:
        return session, token, {service: _endpoint(region, service) for service in Service}
    except keystone_errors.ClientException as error:
        raise _login_failure(error) from error


def _token(session: Session) -> str:
    try:
        token = session.get_token()
    except keystone_errors.ClientException as error:
        raise _login_failure(error) from error
    except OSError as error:  # of the file of certificates: what the network does comes as a ClientException
        raise Invalid(f"keystone cannot be asked: {error}") from error
    if not token:
        raise Unauthenticated("keystone gave no token")
    return token


def _login_failure(error: keystone_errors.ClientException) -> MusterError:
    if isinstance(error, (keystone_errors.Unauthorized, keystone_errors.Forbidden)):
        return Unauthenticated(f"keystone refuses: {error}")
    return Transient(f"keystone cannot be used: {error}", code="client.keystone")


def _endpoint(region: CloudRegion, service: Service) -> str:
    url = region.get_session_endpoint(service.value)
    if not url:
        raise NotFound(f"the catalog of cloud {region.name} has no service of type {service}")
    return versioned(url, service)


def versioned(url: str, service: Service) -> str:
    """The endpoint with its API's version: catalogs of some clouds name it, others leave it to discovery."""
    url = url.rstrip("/")
    return url if _VERSION.search(url) else url + _VERSIONS[service]
