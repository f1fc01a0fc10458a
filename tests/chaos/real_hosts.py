"""A lab with two real hosts and a guest on each, and ways to leave a host as a reboot may leave it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from muster.host.machine import Layout, known_machine
from muster.host.names import bridge_name, tap_name, tunnel_name
from muster.lab import processes
from muster.lab.cluster import Lab
from muster.lab.parts.registry import runners
from muster.lab.site import load
from tests.commands import sh
from tests.waiting import eventually

_SSH = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",
)


class Cluster:
    """The lab as its administrator has it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.key = folder / "key"
        auth = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]["muster"]["auth"]
        self._http = httpx.Client(
            base_url=auth["auth_url"].removesuffix("/identity/v3"), timeout=60, trust_env=False, headers={}
        )
        user = {"name": auth["username"], "domain": {"id": "default"}, "password": auth["password"]}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        answer = self._http.post("/identity/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        public = self.key.with_suffix(".pub").read_text()
        self.ask("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "mine", "public_key": public}})
        self.network = self.ask("GET", "/network/v2.0/networks?name=default")["networks"][0]["id"]
        self._image = self.ask("GET", "/image/v2/images?name=guest")["images"][0]["id"]

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the answer's document. Fails for any other status than a success."""
        answer = self._http.request(method, path, json=body, headers={"OpenStack-API-Version": "compute 2.90"})
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def group(self, name: str, *rules: dict[str, Any]) -> str:
        """A security group with these ingress rules, and everything allowed out; its id."""
        made = self.ask("POST", "/network/v2.0/security-groups", {"security_group": {"name": name}})
        group_id = made["security_group"]["id"]
        for rule in rules:
            body = {"security_group_id": group_id, "direction": "ingress"} | rule
            self.ask("POST", "/network/v2.0/security-group-rules", {"security_group_rule": body})
        return group_id

    def guest(self, host: str, *groups: str) -> "RealGuest":
        """A guest on a host, in groups of these names, that is up."""
        body = {
            "name": f"on-{host}",
            "imageRef": self._image,
            "flavorRef": "guest.tiny",
            "key_name": "mine",
            "networks": [{"uuid": self.network}],
            "availability_zone": f"nova:{host}",
            "security_groups": [{"name": name} for name in groups],
        }
        server_id = self.ask("POST", "/compute/v2.1/servers", {"server": body})["server"]["id"]
        eventually("the guest is ACTIVE", lambda: self.status(server_id) == "ACTIVE")
        return RealGuest(self, host, server_id)

    def status(self, server_id: str) -> str:
        return self.ask("GET", f"/compute/v2.1/servers/{server_id}")["server"]["status"]


class RealGuest:
    """A guest, and its host."""

    def __init__(self, cluster: Cluster, host: str, server_id: str) -> None:
        self.cluster, self.id = cluster, server_id
        self.host = RealHost(cluster.lab, host)
        [port] = cluster.ask("GET", f"/network/v2.0/ports?device_id={server_id}")["ports"]
        self.tap, self.address = tap_name(port["id"]), port["fixed_ips"][0]["ip_address"]

    def ssh(self, command: str) -> str | None:
        """What a command says in the guest, or None where there is no way in."""
        options = [f"-o{option}" for option in _SSH]
        done = self.host.run(
            "ssh", "-F", "none", *options, "-i", str(self.cluster.key), f"root@{self.address}", command
        )
        return done.stdout if done.returncode == 0 else None

    def reach(self, command: str) -> str:
        """The same, once the guest is up."""
        [said] = eventually(
            f"ssh to {self.address}", lambda: [said for said in [self.ssh(command)] if said is not None]
        )
        return said

    def pings(self, address: str) -> bool:
        """Whether an address answers the guest."""
        return self.ssh(f"ping -c 1 -W 3 {address} >/dev/null && echo yes") == "yes\n"


class RealHost:
    """A real host of the lab, as whoever stands before it."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.part = lab.part(name)
        self.namespace = lab.site.namespace(self.part)
        self.layout = Layout(lab.site.part_folder(self.part))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        line = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    def pings(self, address: str) -> bool:
        return self.run("ping", "-c1", "-W2", address).returncode == 0

    def links(self) -> set[str]:
        """Its interfaces but loopback and the cable."""
        return {link["ifname"] for link in json.loads(self.run("ip", "-j", "link").stdout)} - {"lo", "eth0"}

    def agent(self) -> int:
        """The process of `muster host`."""
        return self._of("muster")[0]

    def count(self, program: str) -> int:
        """How many of its processes run this program; the agent is `muster`."""
        return len(self._of(program))

    def libvirtd(self) -> Path:
        machine = known_machine(self.layout)
        assert machine is not None
        return self.layout.libvirtd(machine.host_id)

    def stands(self, guest: RealGuest) -> list[str]:
        """What of a guest and its network is not there exactly once."""
        network = guest.cluster.network
        links = {guest.tap, bridge_name(network), tunnel_name(network)}
        wrong = [f"links are {sorted(self.links())}"] if self.links() != links else []
        joined = {
            link["ifname"]
            for link in json.loads(self.run("ip", "-j", "link", "show", "master", bridge_name(network)).stdout)
        }
        if joined != links - {bridge_name(network)}:
            wrong.append(f"joined are {sorted(joined)}")
        rules = self.run("nft", "list", "ruleset").stdout
        wrong += [f"no rules for {name}" for name in (guest.tap, tunnel_name(network)) if name not in rules]
        programs = ("dnsmasq", "qemu-system-x86_64", "libvirtd", "muster")
        return wrong + [f"{self.count(name)} x {name}" for name in programs if self.count(name) != 1]

    def _of(self, program: str) -> list[int]:
        found = []
        for process in self.lab.processes(self.name):
            with contextlib.suppress(OSError):
                first, _, rest = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().partition("\0")
                called = "muster" if rest.startswith("-m\0muster\0host\0") else Path(first).name
                if called == program:
                    found.append(process.pid)
        return found

    # What a reboot leaves

    def lose_links(self) -> None:
        for name in self.links():
            self.run("ip", "link", "del", name)

    def tear_links(self) -> None:
        """The bridge has lost its ports, one of which is down, and its address; the tunnel is of another host."""
        for name in self.links():
            if name.startswith("brq"):
                self.run("ip", "address", "flush", "dev", name)
            else:
                self.run("ip", "link", "set", name, "nomaster", "down")
            if name.startswith("vxl"):
                self.run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", name, "dst", "192.0.2.99")

    def lose_rules(self) -> None:
        self.run("nft", "flush", "ruleset")

    def lose_dhcp(self) -> None:
        shutil.rmtree(self.layout.network, ignore_errors=True)

    def spoil_dhcp(self, pid: int, address: str) -> None:
        """The DHCP server's pid is by now somebody else's, and its entries give an address to somebody else."""
        [folder] = (self.layout.network / "dhcp").iterdir()
        (folder / "pid").write_text(f"{pid}\n")
        (folder / "hosts" / "stale").write_text(f"02:00:00:00:00:01,{address},stranger\nrubbish\n")

    def lose_libvirt(self) -> None:
        shutil.rmtree(self.libvirtd(), ignore_errors=True)

    def spoil_libvirt(self, pid: int) -> None:
        """The pids of libvirtd and of its first process are by now somebody else's."""
        for name in ("pid", "libvirtd.pid"):
            (self.libvirtd() / name).write_text(f"{pid}\n")

    def boot_anew(self) -> None:
        """It was another boot of the machine: /run is empty, and the namespace that was known is no more."""
        machine = known_machine(self.layout)
        assert machine is not None
        (Path("/run/muster") / machine.namespace.name).unlink(missing_ok=True)
        was = json.loads((self.layout.root / "identity.json").read_text())
        was["namespace"]["boot_id"] = "00000000-0000-4000-8000-000000000000"
        (self.layout.root / "identity.json").write_text(json.dumps(was))

    # The order in which it comes up again

    def start_agent_first(self) -> None:
        """The agent starts libvirtd itself."""
        self.lab.start(self.name)

    def start_libvirt_first(self) -> None:
        """libvirtd runs already, and so may guests, when the agent starts; the first agent does not get far."""
        self.lab.start(self.name, wait=False)
        pid = self.libvirtd() / "libvirtd.pid"
        eventually("libvirtd runs", lambda: self.count("libvirtd") and pid.exists())
        os.kill(self.agent(), signal.SIGKILL)
        eventually("the agent is gone", lambda: not self.count("muster"))
        self.start_beside()

    def start_beside(self) -> None:
        """Start the agent where libvirtd runs already, which `Lab.start` refuses."""

        launch = runners(self.lab.site)[self.part.kind].launch(self.lab.site, self.part)
        processes.start(self.namespace, launch)
        self.lab.await_ready(self.part)

    def start_network_late(self) -> None:
        """The agent is up before its cable is."""
        self.lab.cut(self.name)
        self.lab.start(self.name, wait=False)
        eventually("libvirtd runs", lambda: self.count("libvirtd"))
        time.sleep(3)
        self.lab.join(self.name)
        self.lab.await_ready(self.part)

    def start_address_late(self) -> None:
        """The agent is up before the host has its address: it says so and ends, and is started again."""
        self.run("ip", "address", "flush", "dev", "eth0")
        self.lab.start(self.name, wait=False)
        eventually("the agent ends", lambda: not self.count("muster"))
        assert "is not an address of this machine" in self.lab.site.log(self.part).read_text()
        self.run("ip", "address", "add", f"{self.part.address}/24", "dev", "eth0")
        self.start_beside()


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def two_hosts(folder: Path) -> Iterator[Cluster]:
    """A lab with two real hosts; nothing is left of it at the end."""
    muster = (sys.executable, "-m", "muster", "lab")
    place = ("--data", str(folder / "lab"))
    try:
        sh(*muster, "up", *place, "--workers", "1", "--sim-hosts", "0", "--real-hosts", "2")
        cluster = Cluster(Lab(load(folder / "lab", dict(os.environ))), folder)
        yield cluster
        cluster.close()
    finally:
        sh(*muster, "down", *place)
