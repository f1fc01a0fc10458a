"""Audits the database of a cloud on one machine (SQLite): every address, claim and count is there once."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

Row = sqlite3.Row
Rows = Callable[..., list[Row]]

LIVE = "deleted_at IS NULL"


def audit(path: Path) -> list[str]:
    """What does not add up; nothing if all does. The cloud may run, but must be at rest (see `restless`)."""
    with closing(_open(path)) as connection:

        def rows(statement: str, *values: object) -> list[Row]:
            return connection.execute(statement, values).fetchall()

        connection.execute("BEGIN")  # one picture for all checks
        return [complaint for check in _CHECKS for complaint in check(rows)]


def restless(path: Path) -> list[str]:
    """What is still on its way: servers with a task, messages to be published."""
    with closing(_open(path)) as connection:
        tasks = connection.execute(
            f"SELECT vm_state, task_state, count(*) FROM servers WHERE {LIVE} AND task_state IS NOT NULL GROUP BY 1, 2"
        )
        waiting = [f"{count} servers are {vm_state}/{task_state}" for vm_state, task_state, count in tasks]
        [(notes,)] = connection.execute("SELECT count(*) FROM outbox")
        return waiting + ([f"{notes} notes in the outbox"] if notes else [])


def live_servers(path: Path) -> dict[str, str]:
    """Id to name of every server that is not deleted."""
    with closing(_open(path)) as connection:
        return dict(connection.execute(f"SELECT id, name FROM servers WHERE {LIVE}").fetchall())


def given_addresses(path: Path) -> dict[str, str]:
    """Address to the id of the server that has it."""
    with closing(_open(path)) as connection:
        statement = (
            "SELECT a.ip_address, p.device_id FROM addresses a JOIN ports p ON p.id = a.port_id "
            "WHERE p.device_owner LIKE 'compute:%'"
        )
        return dict(connection.execute(statement).fetchall())


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=300, isolation_level=None)
    connection.row_factory = sqlite3.Row
    return connection


def _database(rows: Rows) -> Iterator[str]:
    for row in rows("PRAGMA quick_check"):
        if row[0] != "ok":
            yield f"the database file is damaged: {row[0]}"
    for row in rows("PRAGMA foreign_key_check"):
        yield f"a row of {row[0]} refers to nothing in {row[2]}"


def _addresses(rows: Rows) -> Iterator[str]:
    """Free ranges, given and resting addresses of a subnet are its pools, each address once.

    Where guests make their own addresses (SLAAC) nothing is given out of pools.
    """
    ranges, seen = defaultdict(list), defaultdict(list)
    for row in rows("SELECT subnet_id, first, last FROM free_ranges"):
        ranges[row["subnet_id"]].append((int(row["first"], 16), int(row["last"], 16)))
    for row in rows("SELECT subnet_id, address, ip_address, port_id, free_at, pooled FROM addresses"):
        number = int(row["address"], 16)
        if int(ip_address(row["ip_address"])) != number:
            yield f"address {row['ip_address']} is kept as the number of another"
        if (row["port_id"] is None) != (row["free_at"] is not None):
            yield f"address {row['ip_address']} neither rests nor has a port, or both"
        if row["pooled"]:
            seen[row["subnet_id"]].append((number, number))
        elif row["port_id"] is None:
            yield f"address {row['ip_address']} from outside the pools rests"
    for subnet in rows("SELECT id, cidr, allocation_pools, ipv6_address_mode FROM subnets"):
        pools = [
            (int(ip_address(pool["start"])), int(ip_address(pool["end"])))
            for pool in json.loads(subnet["allocation_pools"])
            if subnet["ipv6_address_mode"] not in ("slaac", "dhcpv6-stateless")
        ]
        held = sorted(ranges.pop(subnet["id"], []) + seen.pop(subnet["id"], []))
        for (_, last), (first, _) in pairwise(held):
            if first <= last:
                yield f"subnet {subnet['cidr']}: {ip_address(first)} is there twice"
        if _joined(held) != _joined(pools):
            yield f"subnet {subnet['cidr']}: what is free, given and resting is not what its pools hold"
    for subnet_id in ranges.keys() | seen.keys():
        yield f"there are addresses of subnet {subnet_id}, which does not exist"


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few spans as possible."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _ports(rows: Rows) -> Iterator[str]:
    """A port of a server has a live server on the same host, and an address where its network has a subnet."""
    for row in rows(
        "SELECT p.id, s.id AS server, s.deleted_at, h.hostname, p.binding_host_id FROM ports p "
        "LEFT JOIN servers s ON s.id = p.device_id LEFT JOIN hosts h ON h.id = s.host_id "
        "WHERE p.device_owner LIKE 'compute:%'"
    ):
        if row["server"] is None or row["deleted_at"] is not None:
            yield f"port {row['id']} has no server"
        elif row["binding_host_id"] != (row["hostname"] or ""):
            yield f"port {row['id']} is bound to another host than its server"
    for row in rows(
        "SELECT p.id FROM ports p WHERE EXISTS (SELECT 1 FROM subnets s WHERE s.network_id = p.network_id) "
        "AND NOT EXISTS (SELECT 1 FROM addresses a WHERE a.port_id = p.id)"
    ):
        yield f"port {row['id']} has no address"
    for row in rows("SELECT network_id, mac_address FROM ports GROUP BY 1, 2 HAVING count(*) > 1"):
        yield f"MAC address {row['mac_address']} is there twice"
    for row in rows(
        f"SELECT id, vm_state FROM servers s WHERE {LIVE} AND host_id IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM ports p WHERE p.device_id = s.id)"
    ):
        yield f"server {row['id']} ({row['vm_state']}) has a host but no port"
    for row in rows(f"SELECT id FROM servers WHERE {LIVE} AND host_id IS NULL AND vm_state != 'error'"):
        yield f"server {row['id']} has no host and is not in error"


def _members(rows: Rows) -> Iterator[str]:
    """The members of a network are the hosts that have ports of it and an address that other hosts reach."""
    told = {tuple(row) for row in rows("SELECT network_id, host_id, ip_address FROM network_members")}
    true = {
        tuple(row)
        for row in rows(
            "SELECT DISTINCT p.network_id, h.id, h.host_ip FROM ports p JOIN hosts h ON h.hostname = p.binding_host_id "
            "WHERE h.firewall AND h.host_ip LIKE '%.%' AND h.host_ip NOT LIKE '127.%'"
        )
    }
    for network_id, host_id, address in sorted(told - true):
        yield f"network {network_id}: host {host_id} ({address}) is a member without a port"
    for network_id, host_id, address in sorted(true - told):
        yield f"network {network_id}: host {host_id} ({address}) has a port and is no member"


def _claims(rows: Rows) -> Iterator[str]:
    """What is claimed of a host is what its live servers' flavors take, and never more than its limits."""
    taken: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows(f"SELECT host_id, vcpus, ram_mib, disk_gib, flavor FROM servers WHERE {LIVE}"):
        ephemeral = json.loads(row["flavor"]).get("ephemeral_gib", 0)
        sums = {"vcpus": row["vcpus"], "ram_mib": row["ram_mib"], "disk_gib": row["disk_gib"] + ephemeral, "servers": 1}
        taken[row["host_id"] or ""].update(sums)
    for host in rows(
        "SELECT id, hostname, vcpus_used, ram_used_mib, disk_used_gib, servers_used, "
        "vcpus_limit, ram_limit_mib, disk_limit_gib FROM hosts"
    ):
        claimed = (host["vcpus_used"], host["ram_used_mib"], host["disk_used_gib"], host["servers_used"])
        sums = tuple(taken[host["id"]][name] for name in ("vcpus", "ram_mib", "disk_gib", "servers"))
        if claimed != sums:
            yield f"host {host['hostname']}: claimed {claimed}, but its servers take {sums}"
        limits = (host["vcpus_limit"], host["ram_limit_mib"], host["disk_limit_gib"])
        if any(used > limit for used, limit in zip(claimed, limits, strict=False)):
            yield f"host {host['hostname']}: claimed {claimed} of {limits}"


# How many of each resource every project has.
_COUNTS = {
    "instances": f"SELECT project_id, count(*) FROM servers WHERE {LIVE} GROUP BY 1",
    "cores": f"SELECT project_id, sum(vcpus) FROM servers WHERE {LIVE} GROUP BY 1",
    "ram": f"SELECT project_id, sum(ram_mib) FROM servers WHERE {LIVE} GROUP BY 1",
    "port": "SELECT project_id, count(*) FROM ports GROUP BY 1",
    "network": "SELECT project_id, count(*) FROM networks GROUP BY 1",
    "subnet": "SELECT project_id, count(*) FROM subnets GROUP BY 1",
    "security_group": "SELECT project_id, count(*) FROM security_groups GROUP BY 1",
    "security_group_rule": "SELECT project_id, count(*) FROM security_group_rules GROUP BY 1",
}


def _quotas(rows: Rows) -> Iterator[str]:
    """What quotas count as in use is what there is."""
    counted = {(row[0], row[1]): row[2] for row in rows("SELECT project_id, resource, in_use FROM usages")}
    there = {(row[0], resource): row[1] for resource, query in _COUNTS.items() for row in rows(query)}
    for project_id, resource in sorted(counted.keys() | there.keys()):
        if resource in _COUNTS:
            found, count = there.get((project_id, resource), 0), counted.get((project_id, resource), 0)
            if found != count:
                yield f"project {project_id}: {count} of {resource} are counted, {found} are there"


# How many of each resource a user of a project has, where it is counted.
_USERS_COUNTS = {
    "instances": f"SELECT project_id, user_id, count(*) FROM servers WHERE {LIVE} GROUP BY 1, 2",
    "cores": f"SELECT project_id, user_id, sum(vcpus) FROM servers WHERE {LIVE} GROUP BY 1, 2",
    "ram": f"SELECT project_id, user_id, sum(ram_mib) FROM servers WHERE {LIVE} GROUP BY 1, 2",
    "server_groups": "SELECT project_id, user_id, count(*) FROM server_groups GROUP BY 1, 2",
}


def _users(rows: Rows) -> Iterator[str]:
    """What users who have limits have in use is what there is of them, and who counts their project's is told of it."""
    there = {(row[0], row[1], name): row[2] for name, query in _USERS_COUNTS.items() for row in rows(query)}
    told = {(row[0], row[1]) for row in rows("SELECT project_id, resource FROM usages WHERE by_user")}
    for project_id, user_id, resource, count in rows("SELECT project_id, user_id, resource, in_use FROM user_quotas"):
        found = there.get((project_id, user_id, resource), 0)
        if found != count:
            yield f"user {user_id} of project {project_id}: {count} of {resource} are counted, {found} are there"
        if resource in _USERS_COUNTS and (project_id, resource) not in told:
            yield f"project {project_id}: nobody is told to count {resource} by user"


# What is left over, by what it is.
_ORPHANS = {
    "links of ports to security groups": "SELECT port_id FROM port_security_groups WHERE port_id NOT IN "
    "(SELECT id FROM ports) OR security_group_id NOT IN (SELECT id FROM security_groups)",
    "tags of nothing": "SELECT resource_id FROM tags WHERE resource_id NOT IN (SELECT id FROM ports UNION "
    "SELECT id FROM networks UNION SELECT id FROM subnets UNION SELECT id FROM security_groups)",
    "tags of servers": "SELECT server_id FROM server_tags WHERE server_id NOT IN (SELECT id FROM servers)",
    "rules of security groups": "SELECT id FROM security_group_rules WHERE security_group_id NOT IN "
    "(SELECT id FROM security_groups)",
    "actions of servers": "SELECT id FROM instance_actions WHERE server_id NOT IN (SELECT id FROM servers)",
    "addresses of ports": "SELECT address FROM addresses WHERE port_id IS NOT NULL AND port_id NOT IN "
    "(SELECT id FROM ports)",
    "notes for hosts": "SELECT id FROM outbox",
    "servers on unknown hosts": "SELECT id FROM servers WHERE host_id NOT IN (SELECT id FROM hosts)",
}


def _orphans(rows: Rows) -> Iterator[str]:
    for what, query in _ORPHANS.items():
        if found := rows(query):
            yield f"left over: {len(found)} {what}, such as {found[0][0]}"


def _actions(rows: Rows) -> Iterator[str]:
    """Every server has one action of its creation; none is under way where no task is."""
    for row in rows(
        "SELECT s.id, (SELECT count(*) FROM instance_actions a WHERE a.server_id = s.id AND a.action = 'create') AS n "
        "FROM servers s WHERE n != 1"
    ):
        yield f"server {row['id']} was created {row['n']} times by its actions"
    for row in rows(
        "SELECT a.server_id, a.action FROM instance_actions a JOIN servers s ON s.id = a.server_id "
        "WHERE a.finished_at IS NULL AND (s.task_state IS NULL OR s.deleted_at IS NOT NULL)"
    ):
        yield f"server {row['server_id']}: its {row['action']} never ended"


_CHECKS = (_database, _addresses, _ports, _members, _claims, _quotas, _users, _orphans, _actions)
