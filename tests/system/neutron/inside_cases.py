"""The driver within Neutron's transactions: run by Neutron's own Python (test_packaged.py), on a real database."""

import contextlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import netaddr
import pytest
from neutron.db import models_v2
from neutron.ipam import exceptions as ipam_exc
from neutron.ipam import requests as ipam_req
from neutron.tests.common import test_db_base_plugin_v2 as plugins
from neutron.tests.unit import testlib_api
from neutron.tests.unit.ipam.drivers.neutrondb_ipam.test_driver import TestNeutronDbIpamMixin
from neutron_lib import constants, context
from neutron_lib import exceptions as n_exc
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.db import api as db_api
from neutron_lib.plugins import directory
from oslo_db import exception as db_exc
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from webob.exc import HTTPServiceUnavailable

from muster.base.errors import Stale, Transient
from muster.domain.addresses import to_key
from muster.neutron import bulk, command, driver, sessions, store
from muster.neutron.allocation import Ask, Mark, Terms, adopt, allocate, give_back
from muster.neutron.database import Database
from muster.neutron.driver import MusterPool
from muster.neutron.tables import State, addresses, ranges

URL = os.environ["MUSTER_TEST_DATABASE"]
ANY = ipam_req.AnyAddressRequest()
POOL = [{"start": "10.0.0.10", "end": "10.0.0.12"}]


class Failed(Exception):
    pass


class TestWithinNeutronsTransactions(testlib_api.SqlTestCase, TestNeutronDbIpamMixin):
    def setUp(self):
        super().setUp()
        self._project_id = "p"
        self.setup_coreplugin(plugins.DB_PLUGIN_KLASS)
        self.ctx = context.get_admin_context()
        plugin = directory.get_plugin()
        _, self.network_id = self._create_network(plugin, self.ctx)
        made = self._create_subnet(plugin, self.ctx, self.network_id, "10.0.0.0/24", allocation_pools=POOL)
        self.subnet_id = made["id"]

    def subnet(self, ctx=None):
        return MusterPool(None, ctx or self.ctx).get_subnet(self.subnet_id)

    def states(self):
        with db_api.CONTEXT_READER.using(context.get_admin_context()) as session:
            statement = select(addresses.c.ip_address, addresses.c.state)
            return {row.ip_address: State(row.state) for row in session.execute(statement)}

    def fails_after(self, work):
        with pytest.raises(Failed), db_api.CONTEXT_WRITER.using(self.ctx):
            self.work_and_fail(work)

    def work_and_fail(self, work):
        work()
        raise Failed

    def test_what_commits_is_held(self):
        with db_api.CONTEXT_WRITER.using(self.ctx):
            assert self.subnet().allocate(ANY) == "10.0.0.10"
            assert self.states() == {"10.0.0.10": State.CLAIMED}  # others see the claim at once
        assert self.states() == {"10.0.0.10": State.HELD}

    def test_what_fails_is_given_back_and_is_next(self):
        self.fails_after(lambda: self.subnet().allocate(ANY))
        assert self.states() == {"10.0.0.10": State.RESTING}
        assert self.subnet().allocate(ANY) == "10.0.0.10"

    def test_a_savepoint_that_fails_in_a_transaction_that_commits(self):
        with db_api.CONTEXT_WRITER.using(self.ctx) as session:
            first = self.subnet().allocate(ANY)
            with pytest.raises(Failed), session.begin_nested():
                self.work_and_fail(lambda: self.subnet().allocate(ANY))
        assert {first: State.HELD, "10.0.0.11": State.RESTING} == self.states()

    def test_a_release_that_fails_leaves_it_held(self):
        address = self.subnet().allocate(ANY)
        self.fails_after(lambda: self.subnet().deallocate(address))
        assert {address: State.HELD} == self.states()
        self.subnet().deallocate(address)
        assert {address: State.RESTING} == self.states()

    def test_released_and_taken_again_in_one_transaction(self):
        address = self.subnet().allocate(ANY)
        with db_api.CONTEXT_WRITER.using(self.ctx):
            self.subnet().deallocate(address)
            again = self.subnet().allocate(ipam_req.SpecificAddressRequest(address))
            assert address == again
            assert self.subnet().allocate(ANY) == "10.0.0.11"
        assert {address: State.HELD, "10.0.0.11": State.HELD} == self.states()

    def test_who_changes_pools_allocates_from_them_in_the_same_transaction(self):
        pools = [netaddr.IPRange("10.0.0.50", "10.0.0.51")]
        request = ipam_req.SpecificSubnetRequest("p", self.subnet_id, "10.0.0.0/24", allocation_pools=pools)
        with db_api.CONTEXT_WRITER.using(self.ctx):
            MusterPool(None, self.ctx).update_subnet(request)
            assert self.subnet().allocate(ANY) == "10.0.0.50"
        assert self.subnet().get_details().allocation_pools == pools
        assert self.subnet().allocate(ANY) == "10.0.0.51"
        with pytest.raises(ipam_exc.IpAddressGenerationFailure):
            self.subnet().allocate(ANY)

    def test_who_asks_for_a_port_is_not_told_of_servers_and_statements(self):
        away = Transient("The database does not answer: db-7.internal [SQL: SELECT cidr FROM muster_ipam_subnets]")
        refused = mock.patch.object(driver._allocator(), "claim", side_effect=away)
        with refused, mock.patch.object(driver.LOG, "warning") as logged, pytest.raises(HTTPServiceUnavailable) as told:
            self.subnet().allocate(ANY)
        assert told.value.headers["Retry-After"] == "5"
        assert not {"db-7", "SELECT"} & set(str(told.value).replace(".", " ").split())
        assert "db-7.internal" in str(logged.call_args)

    def several(self, count, named=None):
        """What a request for several ports has come to when it has their addresses, as ML2 goes about it.

        `named`: which address a port asks for, by its index.
        """
        ports = [{"port": self.port_body(str(index))} for index in range(count)]
        for index, address in (named or {}).items():
            ports[index]["port"]["fixed_ips"] = [{"ip_address": address}]
        plugin = directory.get_plugin()
        for port in ports:
            payload = events.DBEventPayload(self.ctx, states=(port["port"],))
            registry.publish(resources.PORT, events.BEFORE_CREATE, plugin, payload=payload)
        for index, port in enumerate(ports):
            port["port"]["id"] = f"port-{index}"
            [got] = plugin.ipam.allocate_ips_for_port(self.ctx, port)
            yield got["ip_address"]

    def stands(self):
        payload = events.DBEventPayload(self.ctx, states=({},))
        registry.publish(resources.PORT, events.AFTER_CREATE, directory.get_plugin(), payload=payload)

    def test_addresses_of_a_request_for_several_ports_are_claimed_together(self):
        bulk.watch(driver._end_bulk)
        claims = mock.patch.object(driver._allocator(), "claim", wraps=driver._allocator().claim)
        with claims as claim:
            assert list(self.several(3)) == ["10.0.0.10", "10.0.0.11", "10.0.0.12"]
        assert claim.call_count == 1
        assert set(self.states().values()) == {State.PROMISED}
        with pytest.raises(n_exc.IpAddressGenerationFailure):
            next(self.several(1))

    def test_one_of_several_ports_names_what_was_claimed_for_another(self):
        """It was refused: the request itself had the address."""
        bulk.watch(driver._end_bulk)
        assert list(self.several(3, named={1: "10.0.0.11"})) == ["10.0.0.10", "10.0.0.11", "10.0.0.12"]

    def test_a_port_that_is_begun_again_takes_one_address(self):
        """It took one for each time that it had been announced: in a full subnet others went without."""
        bulk.watch(driver._end_bulk)
        plugin, body = directory.get_plugin(), self.port_body("again")
        for _ in range(2):
            payload = events.DBEventPayload(self.ctx, states=(body,))
            registry.publish(resources.PORT, events.BEFORE_CREATE, plugin, payload=payload)
        plugin.create_port(self.ctx, {"port": body})
        assert self.states() == {"10.0.0.10": State.HELD}

    def test_what_a_request_for_several_ports_leaves_is_given_back(self):
        bulk.watch(driver._end_bulk)
        first = next(self.several(3))
        assert sorted(self.states().values()) == [State.CLAIMED, State.CLAIMED, State.PROMISED]
        self.stands()
        assert sorted(self.states().values()) == [State.RESTING, State.RESTING, State.PROMISED]
        next(self.several(2))
        self.subnet().deallocate(first)  # so Neutron does when a request fails
        assert sorted(self.states().values()) == [State.RESTING, State.RESTING, State.PROMISED]

    def test_a_request_for_several_ports_takes_what_there_is_and_fails(self):
        bulk.watch(driver._end_bulk)
        with pytest.raises(n_exc.IpAddressGenerationFailure):
            list(self.several(4))
        assert sorted(self.states().values()) == [State.PROMISED, State.PROMISED, State.PROMISED]

    def test_a_request_for_several_ports_that_fails_at_its_first_leaves_no_claim(self):
        """What was claimed for those that follow stayed so for `claim_age`: Neutron had nothing to release."""
        bulk.watch(driver._end_bulk)
        full = [{"start": "fd00::10", "end": "fd00::10"}]
        plugin = directory.get_plugin()
        self._create_subnet(plugin, self.ctx, self.network_id, "fd00::/64", ip_version=6, allocation_pools=full)
        assert plugin.create_port(context.get_admin_context(), {"port": self.port_body("the last v6")})
        with pytest.raises(n_exc.IpAddressGenerationFailure):
            next(self.several(3))
        assert State.CLAIMED not in self.states().values()

    def test_what_was_promised_is_held_with_its_port_and_goes_back_without(self):
        first, *others = self.several(3)
        plugin = directory.get_plugin()
        with db_api.CONTEXT_WRITER.using(context.get_admin_context()) as session:
            body = {
                "id": "port-0",
                "network_id": self.network_id,
                "project_id": "p",
                "mac_address": "fa:16:3e:00:00:01",
            }
            body |= {"admin_state_up": True, "status": "ACTIVE", "device_id": "", "device_owner": ""}
            session.add(models_v2.Port(**body))
            session.flush()
            stored = {"port_id": "port-0", "network_id": self.network_id, "subnet_id": self.subnet_id}
            session.add(models_v2.IPAllocation(ip_address=first, **stored))
        self.age(State.PROMISED)
        made = plugin.create_port(context.get_admin_context(), {"port": self.port_body("another")})
        assert made["fixed_ips"][0]["ip_address"] in others  # both have come back at once, in no order
        assert sorted(self.states().values()) == [State.RESTING, State.HELD, State.HELD]

    def age(self, state):
        """Let all that is in a state have been so for ever."""
        with db_api.CONTEXT_WRITER.using(context.get_admin_context()) as session:
            session.execute(addresses.update().where(addresses.c.state == state).values(since=1.0))

    def test_a_port_that_is_made_alone_holds_its_address_at_once(self):
        plugin = directory.get_plugin()
        made = plugin.create_port(context.get_admin_context(), {"port": self.port_body("alone")})
        assert set(self.states().values()) == {State.HELD}
        fixed = [{"subnet_id": self.subnet_id, "ip_address": "10.0.0.77"}]
        plugin.update_port(context.get_admin_context(), made["id"], {"port": {"fixed_ips": fixed}})
        assert self.states() == {"10.0.0.10": State.RESTING, "10.0.0.77": State.HELD}

    def test_what_changed_under_neutrons_transaction_begins_that_again(self):
        changed = mock.patch.object(driver.allocation, "allocate", side_effect=Stale("others were here"))
        with changed, db_api.CONTEXT_WRITER.using(self.ctx) as session:
            sessions.book(session).own_subnets.add(self.subnet_id)
            with pytest.raises(db_exc.RetryRequest):
                self.subnet().allocate(ANY)

    def test_a_subnet_that_is_deleted_while_an_address_is_decided_leaves_nothing(self):
        deleted = context.get_admin_context()

        def delete():
            with db_api.CONTEXT_WRITER.using(deleted) as session:
                store.remove_subnet(session.connection(), self.subnet_id)

        def decide(connection):
            terms = Terms(lambda _cidr, _address: True, now=time.time())
            allocate(connection, self.subnet_id, [Ask()], Mark(State.CLAIMED, "c"), terms)
            deletion = pool.submit(delete)
            time.sleep(1)  # for it to wait for what is locked here; it need not have come so far
            return deletion

        with ThreadPoolExecutor(1) as pool:
            Database(URL, lease_s=60, wait_s=60).run(decide).result(timeout=300)
        assert self.states() == {}

    def test_a_port_that_is_deleted_while_its_subnet_is_taken_over_leaves_its_address(self):
        """It was held for ever: who deleted the port saw no row to release, who took over saw the port."""
        plugin = directory.get_plugin()
        going = plugin.create_port(context.get_admin_context(), {"port": self.port_body("going")})
        deleting = context.get_admin_context()
        with db_api.CONTEXT_WRITER.using(deleting) as session:
            store.remove_subnet(session.connection(), self.subnet_id)
        with db_api.CONTEXT_WRITER.using(deleting):
            plugin.delete_port(deleting, going["id"])
            Database(URL, lease_s=60, wait_s=60).run(lambda connection: adopt(connection, self.subnet_id, time.time()))
        self.age(State.PROMISED)
        made = [plugin.create_port(context.get_admin_context(), {"port": self.port_body(str(i))}) for i in range(3)]
        assert {port["fixed_ips"][0]["ip_address"] for port in made} == {"10.0.0.10", "10.0.0.11", "10.0.0.12"}

    def test_giving_back_does_not_wait_for_who_decides_meanwhile(self):
        """It waited for the subnet's row, past the lock service, and each creation that failed took part."""
        claim = driver._allocator().claim(self.subnet_id, Ask())

        def give_back_beside(connection):
            store.lock_subnet(connection, self.subnet_id)
            given = (self.subnet_id, claim.ip_addresses, claim.claim, time.time())
            Database(URL, lease_s=60, wait_s=1).run(lambda beside: give_back(beside, *given))

        Database(URL, lease_s=60, wait_s=60).run(give_back_beside)
        assert self.states() == {"10.0.0.10": State.RESTING}

    def test_a_row_that_stays_locked_is_waited_for_once(self):
        tries = []

        def wait(connection):
            tries.append(connection)
            store.lock_subnet(connection, self.subnet_id)

        def hold(connection):
            store.lock_subnet(connection, self.subnet_id)
            with pytest.raises(Transient):
                Database(URL, lease_s=60, wait_s=1).run(wait)

        Database(URL, lease_s=60, wait_s=60).run(hold)
        assert len(tries) == 1

    def port_body(self, name):
        body = {"network_id": self.network_id, "project_id": "p", "tenant_id": "p", "name": name}
        body |= {"admin_state_up": True, "device_id": "", "device_owner": ""}
        body |= {"mac_address": constants.ATTR_NOT_SPECIFIED, "fixed_ips": constants.ATTR_NOT_SPECIFIED}
        return body

    def test_ports_of_another_driver_keep_their_addresses(self):
        def port(name):
            made = directory.get_plugin().create_port(context.get_admin_context(), {"port": self.port_body(name)})
            return made["fixed_ips"][0]["ip_address"]

        first = port("known to both")
        with db_api.CONTEXT_WRITER.using(context.get_admin_context()) as session:  # as if `internal` had made it
            session.execute(addresses.delete().where(addresses.c.ip_address == first))
            session.execute(ranges.update().values(first=to_key(int(netaddr.IPAddress(first)))))
        assert {"10.0.0.11", "10.0.0.12"} == {port("second"), port("third")}
        assert self.states()[first] == State.PROMISED


def test_what_is_read_at_one_moment_leaves_the_connection_as_it_was():
    """What was set right after a look at it was read as it had been when the transaction began, on MySQL."""
    database = Database(URL, lease_s=60, wait_s=60)

    def level(connection):
        return connection.get_isolation_level()

    levels = [database.run(level), database.run_at_one_moment(level), database.run(level)]
    assert levels == ["READ COMMITTED", "REPEATABLE READ", "READ COMMITTED"]


class Relay:
    """Between a client and a server, until it forgets the connections that there are, as a firewall may."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends = []
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [client, server]
                self.connections += 1
                forgotten = self._forgotten = threading.Event()
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target, forgotten), daemon=True).start()

    def _pass_on(self, source, target, forgotten):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not forgotten.is_set():
                    target.sendall(data)

    def forget(self):
        self._forgotten.set()

    def close(self):
        for one in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.skipif(not URL.startswith("mysql"), reason="libpq waits for as long as there is a kernel")
def test_a_connection_that_a_firewall_forgot_is_given_up():
    """A batch waited for its answer for a quarter of an hour, and all who came after it."""
    relay = Relay(make_url(URL).port)
    try:
        database = Database(make_url(URL).set(port=relay.port).render_as_string(False), lease_s=2, wait_s=1)
        assert database.run(lambda connection: connection.scalar(text("SELECT 1"))) == 1
        relay.forget()
        assert database.run(lambda connection: connection.scalar(text("SELECT 1"))) == 1
        assert relay.connections == 2
    finally:
        relay.close()


@pytest.mark.parametrize(
    "text", [None, "[DEFAULT\n", "[muster_ipam]\nlease = long\n[database]\nconnection = sqlite://\n"]
)
def test_a_configuration_that_cannot_be_used_is_told_in_a_line(tmp_path, capsys, text):
    """It came with its stack."""
    file = tmp_path / "neutron.conf"
    if text is not None:
        file.write_text(text)
    assert command.main(["--config-file", str(file), "status"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("muster-ipam: ")


def test_on_sqlite_the_command_says_that_it_is_not_for_it(tmp_path, capsys):
    file = tmp_path / "neutron.conf"
    file.write_text("[database]\nconnection = sqlite://\n")
    assert command.main(["--config-file", str(file), "status"]) == 2
    assert capsys.readouterr().err == "muster-ipam: not for SQLite, but for MySQL, MariaDB and PostgreSQL\n"


def test_a_statement_that_did_not_get_through_says_nothing_of_tables(monkeypatch, capsys):
    """Whatever named one of the driver's tables was taken for a table that is not there."""

    def contended(_):
        raise Transient("no way through: UPDATE muster_ipam_addresses") from db_exc.DBDeadlock()

    monkeypatch.setattr(command, "_run", contended)
    assert command.main(["status"]) == 2
    assert capsys.readouterr().err == "muster-ipam: no way through: UPDATE muster_ipam_addresses\n"
