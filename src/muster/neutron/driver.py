"""The IPAM driver: `ipam_driver = muster` (or this class's path) in neutron.conf.

Subnets are written as Neutron's own `internal` driver writes them, in the caller's transaction, with the rows of
`tables` beside; so the way back to `internal` stays open. Addresses go another way: decided and committed by a short
transaction of their own (`allocator`), confirmed in the caller's, given back when that fails (`sessions`).
"""

import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import netaddr
import webob.exc
from neutron.db import models_v2
from neutron.ipam import driver as ipam_base
from neutron.ipam import exceptions as ipam_exc
from neutron.ipam import requests as ipam_req
from neutron.ipam import subnet_alloc
from neutron.ipam import utils as ipam_utils
from neutron.ipam.drivers.neutrondb_ipam import driver as internal
from neutron_lib import exceptions as n_exc
from neutron_lib.db import api as db_api
from oslo_config import cfg
from oslo_db import exception as db_exc
from sqlalchemy import orm
from sqlalchemy.engine import Connection
from sqlalchemy.orm.util import identity_key

from muster.base.errors import Conflict, Exhausted, Invalid, MusterError, NotFound, Stale, Transient
from muster.domain.addresses import Range
from muster.neutron import allocation, bulk, options, sessions, store
from muster.neutron.allocation import Ages, Ask, Mark, Terms
from muster.neutron.allocator import Allocator, Policy
from muster.neutron.database import Database
from muster.neutron.locks import open_locks
from muster.neutron.sessions import Book, Claim
from muster.neutron.tables import State

LOG = logging.getLogger(__name__)

_RETRY_AFTER_S = 5


class AddressesUnavailable(webob.exc.HTTPServiceUnavailable):
    """503 with Retry-After: the lock service or the database is away. Neutron passes HTTP errors on as they are.

    Why is for the log: it names servers and statements, and who asks for a port is anybody.
    """

    def __init__(self) -> None:
        headers = [("Retry-After", str(_RETRY_AFTER_S))]
        super().__init__(detail="No IP address can be allocated now. Try again later.", headers=headers)


class AddressRequestFactory(ipam_req.AddressRequestFactory):
    """Neutron's requests, which know in addition for which port of which network they are."""

    @classmethod
    def get_request(cls, context: Any, port: Any, ip_dict: Any) -> Any:
        request = super().get_request(context, port, ip_dict)
        request.port_id, request.network_id = port.get("id"), port.get("network_id")
        return request


class MusterPool(internal.NeutronDbPool):
    """See `neutron.ipam.driver.Pool`."""

    def get_subnet(self, subnet_id: str) -> Any:
        return MusterSubnet.load(subnet_id, self._context)

    def allocate_subnet(self, request: Any) -> Any:
        if self._subnetpool:
            request = subnet_alloc.SubnetAllocator.allocate_subnet(self, request).get_details()
        if not isinstance(request, ipam_req.SpecificSubnetRequest):
            raise ipam_exc.InvalidSubnetRequestType(subnet_type=type(request))
        return MusterSubnet.create_from_subnet_request(request, self._context)

    def update_subnet(self, request: Any) -> Any:
        if not request.subnet_id or request.allocation_pools is None:
            return super().update_subnet(request)  # refuses it, or has nothing to do
        subnet = MusterSubnet.load(request.subnet_id, self._context)
        subnet.update_allocation_pools(request.allocation_pools, netaddr.IPNetwork(request.subnet_cidr))
        changed = _subnet(request.subnet_id, request.subnet_cidr, request.allocation_pools)
        with db_api.CONTEXT_WRITER.using(self._context):
            session = self._context.session
            allocation.change_subnet(session.connection(), changed, time.time())
            sessions.book(session).own_subnets.add(changed.id)
        return subnet

    def remove_subnet(self, subnet_id: str) -> None:
        super().remove_subnet(subnet_id)
        with db_api.CONTEXT_WRITER.using(self._context):
            store.remove_subnet(self._context.session.connection(), subnet_id)
            sessions.book(self._context.session).own_subnets.add(subnet_id)

    def get_allocator(self, subnet_ids: Sequence[str]) -> Any:
        return MusterSubnetGroup(self._context, subnet_ids)

    def get_address_request_factory(self) -> Any:
        return AddressRequestFactory

    def needs_rollback(self) -> bool:
        """What Neutron's transaction undoes, it undoes here too; the rest is given back when it ends."""
        return False


class MusterSubnetGroup(ipam_base.SubnetGroup):
    """Subnets of which any will do, in order of preference."""

    def __init__(self, context: Any, subnet_ids: Sequence[str]) -> None:
        self._context = context
        self._subnet_ids = subnet_ids

    def allocate(self, request: Any) -> tuple[str, str]:
        try:
            return self._first(request)
        except Exception:  # of a request for several ports, Neutron releases at most what ports before this one have
            _end_bulk(self._context)
            raise

    def _first(self, request: Any) -> tuple[str, str]:
        for subnet_id in self._subnet_ids:
            try:
                return _take(self._context, subnet_id, request)[0], subnet_id
            except ipam_exc.IpAddressGenerationFailure:
                continue
        raise ipam_exc.IpAddressGenerationFailureAllSubnets()


class MusterSubnet(internal.NeutronDbSubnet):
    """See `neutron.ipam.driver.Subnet`."""

    @classmethod
    def create_from_subnet_request(cls, request: Any, context: Any) -> Any:
        subnet = super().create_from_subnet_request(request, context)
        if request.subnet_id:
            made = _subnet(request.subnet_id, request.subnet_cidr, subnet.get_details().allocation_pools)
            with db_api.CONTEXT_WRITER.using(context):
                session = context.session
                allocation.open_or_change_subnet(session.connection(), made, time.time())
                sessions.book(session).own_subnets.add(made.id)
        return subnet

    def allocate(self, request: Any) -> str:
        return _take(self._context, self._subnet_id, request)[0]

    def bulk_allocate(self, request: Any) -> list[str]:
        return list(_take(self._context, self._subnet_id, request))

    def deallocate(self, address: Any) -> None:
        ip_address = str(netaddr.IPAddress(address))
        with db_api.CONTEXT_WRITER.using(self._context):
            session = self._context.session
            store.release(session.connection(), self._subnet_id, ip_address, time.time())
            sessions.book(session).released.add((self._subnet_id, ip_address))
        _end_bulk(self._context)


def _take(context: Any, subnet_id: str, request: Any) -> tuple[str, ...]:
    """Addresses for a request, held (or promised) within the caller's transaction. Raises Neutron's errors."""
    ask = _ask(request)
    port_id = getattr(request, "port_id", None)
    try:
        with db_api.CONTEXT_WRITER.using(context):
            session = context.session
            book, state = sessions.book(session), _state(session, port_id)
            if subnet_id in book.own_subnets or session.get_bind().dialect.name == "sqlite":
                return _take_inside(session.connection(), subnet_id, ask, Mark(state, secrets.token_hex(16), port_id))
            values = {"state": int(state), "since": time.time(), "port_id": port_id}
            wanted = str(request.address) if ask.number is not None else ""
            released = (subnet_id, wanted) in book.released
            if released and store.take_again(session.connection(), subnet_id, wanted, values):
                return (wanted,)
            claim = _claim(context, subnet_id, request, ask, state)
            return _take_outside(session.connection(), book, claim, values)
    except MusterError as error:
        raise _as_neutrons(error, subnet_id, request) from error


def _state(session: orm.Session, port_id: str | None) -> State:
    """What an address comes to with the caller's transaction: HELD if that has the port it is for, or names none.

    Else Neutron writes the port in a later one, as it does when a request makes several: PROMISED.
    """
    known = port_id is None or identity_key(models_v2.Port, port_id) in session.identity_map
    return State.HELD if known else State.PROMISED


def _claim(context: Any, subnet_id: str, request: Any, ask: Ask, state: State) -> Claim:
    """Claim what is asked for; for the first of several ports that one request makes, what the others will ask for.

    Only those are promised their addresses. A port made alone is announced once more each time it is begun again.
    """
    coming = bulk.of(context) if state is State.PROMISED else None
    if coming is not None and ask.number is not None and (named := coming.take_named(subnet_id, str(request.address))):
        return named
    if coming is None or ask != Ask():
        return _allocator().claim(subnet_id, ask)
    wanted = coming.begin(request.network_id, request.port_id)
    return coming.take(subnet_id, wanted, lambda n: _allocator().claim(subnet_id, Ask(count=n, or_fewer=True)))


def _end_bulk(context: Any) -> None:
    """Give back what was claimed for ports of a request that has what it needs, or fails."""
    coming = bulk.of(context)
    if coming is None or not (left := coming.end()):
        return
    try:
        _allocator().give_back(left)
    except Exception:  # the request goes on, or fails for its own reason
        LOG.exception("Addresses are given back by the sweep: %s", left)


def _take_outside(connection: Connection, book: Book, claim: Claim, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Make a claim this transaction's own: it becomes `values` if that commits, and is given back if not."""
    book.claims.append(claim)
    if not store.confirm(connection, claim.subnet_id, claim.ip_addresses, claim.claim, values):
        # This process was stopped for longer than `claim_age`. Neutron begins the request again.
        raise db_exc.RetryRequest(ipam_exc.IpAddressGenerationFailure(subnet_id=claim.subnet_id))
    return claim.ip_addresses


def _take_inside(connection: Connection, subnet_id: str, ask: Ask, mark: Mark) -> tuple[str, ...]:
    """Allocate within the caller's transaction, which has made or locked the subnet itself: nobody else can."""
    [outcome] = allocation.allocate(connection, subnet_id, [ask], mark, _terms())
    if isinstance(outcome, MusterError):
        raise outcome
    return outcome


def _ask(request: Any) -> Ask:
    if isinstance(request, ipam_req.SpecificAddressRequest):  # EUI-64 too
        return Ask(number=int(request.address))
    if isinstance(request, ipam_req.BulkAddressRequest):
        return Ask(count=request.num_addresses)
    return Ask()


def _as_neutrons(error: MusterError, subnet_id: str, request: Any) -> Any:
    if isinstance(error, Conflict):
        return ipam_exc.IpAddressAlreadyAllocated(subnet_id=subnet_id, ip=str(request.address))
    if isinstance(error, Invalid):
        return ipam_exc.InvalidIpForSubnet(subnet_id=subnet_id, ip=str(request.address))
    if isinstance(error, Exhausted):
        return ipam_exc.IpAddressGenerationFailure(subnet_id=subnet_id)
    if isinstance(error, NotFound):
        return n_exc.SubnetNotFound(subnet_id=subnet_id)
    if isinstance(error, Transient):
        LOG.warning("Subnet %s: no IP address can be allocated now: %s", subnet_id, error.message)
        return AddressesUnavailable()
    if isinstance(error, Stale):  # within a transaction of Neutron's, which has to begin again as a whole
        return db_exc.RetryRequest(error)
    return error


def _subnet(subnet_id: str, cidr: Any, pools: Sequence[Any]) -> store.Subnet:
    return store.Subnet(subnet_id, str(cidr), tuple(Range(pool.first, pool.last) for pool in pools))


def _terms() -> Terms:
    section = options.register(cfg.CONF)
    return Terms(ipam_utils.check_subnet_ip, now=time.time(), rest_s=section.rest, ages=_ages(section))


def _ages(section: Any) -> Ages:
    return Ages(claim_s=section.claim_age, promise_s=section.promise_age)


class _Process:
    """What all requests of a process share."""

    guard = threading.Lock()
    allocator: Allocator | None = None


def _allocator() -> Allocator:
    """Made when the first address is asked for: then the configuration is read, and uWSGI has forked."""
    with _Process.guard:
        if _Process.allocator is None:
            section = options.register(cfg.CONF)
            url = db_api.CONTEXT_WRITER.get_engine().url.render_as_string(hide_password=False)
            policy = Policy(
                batch=section.batch,
                rest_s=section.rest,
                ages=_ages(section),
                refuse_without_lock=section.without_lock == "refuse",
                fits=ipam_utils.check_subnet_ip,
            )
            try:
                locks = open_locks(section.lock_url, section.lease, section.lock_timeout)
            except Invalid as error:
                raise cfg.Error(f"[muster_ipam] in neutron.conf: {error.message}") from error
            _Process.allocator = Allocator(Database(url, section.lease, section.lock_timeout), locks, policy)
            sessions.watch(_Process.allocator.give_back)
            bulk.watch(_end_bulk)
        return _Process.allocator
