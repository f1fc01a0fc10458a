"""Audits a machine that is a cloud's host: what runs and stands there is what the cloud's users were told, and no more.

It reads processes from /proc, links and rules from the kernel of the host's network namespace, and the files that QEMU
and dnsmasq read; of the cloud it reads the HTTP API.
"""

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """A server as its user sees it: its id, and of each port the id, MAC address and IP address."""

    server_id: str
    ports: tuple[tuple[str, str, str], ...]


def wanted(servers: list[dict[str, Any]], ports: list[dict[str, Any]]) -> list[Wanted]:
    """What should be on the machine, from the API's documents of servers and ports."""
    return [
        Wanted(
            server["id"],
            tuple(
                (port["id"], port["mac_address"], port["fixed_ips"][0]["ip_address"])
                for port in ports
                if port["device_id"] == server["id"]
            ),
        )
        for server in servers
    ]


def audit(folder: Path, namespace: str, servers: list[Wanted]) -> list[str]:
    """What is missing on the machine, is there twice, or should not be there; nothing if all is well."""
    ids = Counter(server.server_id for server in servers)
    ports = [port for server in servers for port in server.ports]
    taps = Counter(_tap(port_id) for port_id, _, _ in ports)
    found = [
        ("QEMU", ids, _guests(folder)),
        ("folder", ids, Counter(path.name for path in (folder / "host" / "instances").glob("*"))),
        ("disk", ids, Counter(path.parent.name for path in (folder / "host" / "instances").glob("*/disk.qcow2"))),
        ("tap", taps, Counter(name for name in _links(namespace) if name.startswith("tap"))),
        ("DHCP entry", Counter(f"{mac} {ip}" for _, mac, ip in ports), _dhcp_entries(folder)),
    ]
    complaints = [complaint for what, should, there in found for complaint in _compared(what, should, there)]
    rules = _ruleset(namespace)
    complaints += [f"rules know nothing of {tap}" for tap in taps if tap not in rules]
    complaints += [
        f"rules know of {tap}, which has no port" for tap in set(re.findall(r"tap[\w-]{11}", rules)) - set(taps)
    ]
    return complaints


def _compared(what: str, should: Counter[str], there: Counter[str]) -> list[str]:
    return [
        f"{what} of {name}: {there[name]} instead of {should[name]}"
        for name in sorted(should.keys() | there.keys())
        if there[name] != should[name]
    ]


def _tap(port_id: str) -> str:
    return "tap" + port_id[:11]


def _guests(folder: Path) -> Counter[str]:
    """Servers by the QEMU processes that run from the cloud's folder."""
    found: Counter[str] = Counter()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "qemu" in command[0] and any(str(folder) in part for part in command) and "-uuid" in command:
            found[command[command.index("-uuid") + 1]] += 1
    return found


def _dhcp_entries(folder: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in (folder / "host" / "network" / "dhcp").glob("*/hosts/*"):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                mac, address, *_ = line.split(",")
                found[f"{mac} {address}"] += 1
    return found


def _links(namespace: str) -> list[str]:
    return [link["ifname"] for link in json.loads(_inside(namespace, "ip", "-j", "link"))]


def _ruleset(namespace: str) -> str:
    return _inside(namespace, "nft", "list", "ruleset")


def _inside(namespace: str, *command: str) -> str:
    line = ["ip", "netns", "exec", namespace, *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=True).stdout
