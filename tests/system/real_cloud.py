"""A cloud with real guests in a network namespace of its own, as its user sees it: HTTP, ping, ssh.

`muster up --libvirt` runs as a process inside the namespace, so bridges, rules and DHCP servers are kept from
everything else on the machine. Requests are made by a thread that has entered the namespace.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from built_guest import build_guest
from namespaces import enter
from tests.commands import sh
from tests.waiting import eventually

from muster.host.machine import Layout, known_machine

START_S = 300.0
BOOT_S = 300.0
#: Says what is new with each boot of a guest.
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
SSH_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",
}


class RealCloud:
    """The cloud in `folder`. `start` and `kill` as often as wanted; `remove` at the end.

    `within` is what its process is started with (and by), for example a control group.
    """

    def __init__(self, folder: Path, *arguments: str, within: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.namespace = f"muster-real-{uuid.uuid4().hex[:8]}"
        self.key = folder.parent / f"{folder.name}-key"
        self.base_url = self.token = ""
        self.login = "root"
        self._arguments = arguments
        self._within = within
        self._log = folder.with_name(folder.name + ".log")
        self._process: subprocess.Popen[str] | None = None
        build_guest()
        self._inside = ThreadPoolExecutor(1, initializer=lambda: enter(self.namespace))
        sh("ip", "netns", "add", self.namespace)
        sh("ip", "-n", self.namespace, "link", "set", "lo", "up")
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))

    # The process

    def start(self) -> None:
        """Start, or start again, and wait until it says that it is ready."""
        said = self.start_refused(expected=False)
        assert "ready at" in said, said
        self.base_url = said.rsplit(" ", 1)[1].strip()
        if not self.token:
            self.token = self._log_in()

    def start_refused(self, *, expected: bool = True) -> str:
        """Start it; the first line that it says, or, if it is expected to refuse, its error."""
        command = [sys.executable, "-m", "muster", "up", "--data", str(self.folder), "--port", "0", *self._arguments]
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*self._starter(), *command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line and not expected:
            return line
        self._process.wait(START_S)
        self._process.stdout.close()
        return self.log()

    def _starter(self) -> tuple[str, ...]:
        """What the process is started by; the namespace may have been changed since the last time."""
        if not self._within:
            return ("ip", "netns", "exec", self.namespace)
        # `ip netns exec` shows a /sys of its own, in which no control groups are.
        return (*self._within, "nsenter", f"--net=/run/netns/{self.namespace}")

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait until it is no more."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(number)
        self._process.wait(300)
        self._process.stdout.close()
        self._process = None

    def down(self) -> str:
        """`muster down`, from outside of the namespace; what it says."""
        command = [sys.executable, "-m", "muster", "down", "--data", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def remove(self) -> None:
        """Whatever the test did, nothing is left."""
        try:
            self.down()
        finally:
            if self._process is not None:
                self.end(signal.SIGKILL)
            self._inside.shutdown()
            subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True, timeout=120, check=False)

    # Its APIs

    def ask(self, method: str, path: str, body: Any = None, version: str = "2.90") -> Any:
        """One request as the admin; the answer's document. Fails for any other status than a success."""
        answer = self._request(method, path, body, version)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def exists(self, path: str) -> bool:
        return self._request("GET", path, None, "2.90").status_code != 404

    def named(self, path: str, name: str) -> dict[str, Any]:
        """The one thing of a list with this name."""
        [items] = [value for value in self.ask("GET", path).values() if isinstance(value, list)]
        [item] = [item for item in items if item["name"] == name]
        return item

    def create_server(self, name: str, **more: Any) -> str:
        """Ask for a guest on the default network; its id."""
        body = {
            "name": name,
            "imageRef": self.named("/image/v2/images", "guest")["id"],
            "flavorRef": "guest.tiny",
            "networks": [{"uuid": self.named("/network/v2.0/networks", "default")["id"]}],
        }
        return self.ask("POST", "/compute/v2.1/servers", {"server": body | more})["server"]["id"]

    def upload_image(self, name: str, path: Path, **more: Any) -> str:
        """An image of a qcow2 file; its id."""
        body = {"name": name, "disk_format": "qcow2", "container_format": "bare"} | more
        image_id = self.ask("POST", "/image/v2/images", body)["id"]
        url = f"{self.base_url}/image/v2/images/{image_id}/file"
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/octet-stream"}

        def work() -> httpx.Response:
            with path.open("rb") as content:
                return httpx.put(url, content=content, headers=headers, timeout=600, trust_env=False)

        answer = self._inside.submit(work).result()
        assert answer.is_success, answer.text
        return image_id

    def console(self, server_id: str) -> str:
        """All that a guest has said on its serial port."""
        path = f"/compute/v2.1/servers/{server_id}/action"
        return self.ask("POST", path, {"os-getConsoleOutput": {}})["output"]

    def server(self, server_id: str) -> dict[str, Any]:
        return self.ask("GET", f"/compute/v2.1/servers/{server_id}")["server"]

    def act(self, server_id: str, action: dict[str, Any]) -> None:
        self.ask("POST", f"/compute/v2.1/servers/{server_id}/action", action)

    def becomes(self, server_id: str, status: str) -> dict[str, Any]:
        """Wait for a status."""

        def there() -> dict[str, Any] | None:
            server = self.server(server_id)
            assert status == "ERROR" or server["status"] != "ERROR", server.get("fault")
            return server if server["status"] == status and server["OS-EXT-STS:task_state"] is None else None

        return eventually(f"server becomes {status}", there)

    def delete(self, server_id: str) -> None:
        self.ask("DELETE", f"/compute/v2.1/servers/{server_id}")
        eventually("server is gone", lambda: not self.exists(f"/compute/v2.1/servers/{server_id}"))

    def timeline(self, server_id: str) -> dict[str, float]:
        """When each step of a server's way was done; kept in the cloud's database."""
        with sqlite3.connect(f"file:{self.folder / 'muster.db'}?mode=ro", uri=True) as database:
            [(text,)] = database.execute("SELECT timeline FROM servers WHERE id = ?", (server_id,))
        return json.loads(text)

    def _log_in(self) -> str:
        [auth] = [yaml.safe_load((self.folder / "clouds.yaml").read_text())["clouds"]["muster"]["auth"]]
        user = {"name": "admin", "domain": {"id": "default"}, "password": auth["password"]}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        answer = self._request("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}}, "")
        return answer.headers["X-Subject-Token"]

    def _request(self, method: str, path: str, body: Any, version: str) -> httpx.Response:
        headers = {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {version}"}
        if not version:
            headers.clear()

        def work() -> httpx.Response:
            with httpx.Client(base_url=self.base_url, timeout=240, trust_env=False) as client:
                return client.request(method, path, json=body, headers=headers)

        return self._inside.submit(work).result(300)

    # Its guests, from the host

    def inside(self, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace."""
        line = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout_s, check=False)

    def answers_ping(self, address: str) -> bool:
        return self.inside("ping", "-c1", "-W2", address).returncode == 0

    def ssh(self, address: str, command: str, timeout_s: float = 300) -> str | None:
        """What a command says in a guest, or None where there is no way in."""
        options = [f"-o{name}={value}" for name, value in SSH_OPTIONS.items()]
        words = ["ssh", "-F", "none", *options, "-i", str(self.key), f"{self.login}@{address}", command]
        done = self.inside(*words, timeout_s=timeout_s)
        return done.stdout if done.returncode == 0 else None

    def reach(self, address: str, command: str) -> str:
        """The same, once the guest is up."""
        [said] = eventually(
            f"ssh to {address}", lambda: [said for said in [self.ssh(address, command)] if said is not None]
        )
        return said

    def is_open(self, address: str, port: int) -> bool:
        """Whether a TCP connection can be made from outside."""
        return self.inside("timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}").returncode == 0

    # What stands

    def links(self) -> set[str]:
        """Interfaces in the namespace but loopback."""
        return {link["ifname"] for link in json.loads(self.inside("ip", "-j", "link").stdout)} - {"lo"}

    def rules(self) -> str:
        return self.inside("nft", "list", "ruleset").stdout

    def end_all_guests(self) -> None:
        """Kill what libvirtd and all guests run under."""
        layout = Layout(self.folder)
        machine = known_machine(layout)
        assert machine is not None
        os.kill(int((layout.libvirtd(machine.host_id) / "pid").read_text()), signal.SIGKILL)

    def lose_power(self) -> None:
        """Every process of the cloud and its host ends at once; links, rules and files stay as they are."""
        self.end_all_guests()
        self.end(signal.SIGKILL)
        for pid in self._running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually("all has ended", lambda: not self._running())

    def processes(self) -> list[str]:
        """Command lines of all that runs for this cloud: whatever names its folder, or is in its namespace."""
        return list(self._running().values())

    def _running(self) -> dict[int, str]:
        inside = os.stat(f"/run/netns/{self.namespace}").st_ino
        return {pid: line for pid, line, place in _processes() if place == inside or str(self.folder) in line}

    def leftovers(self) -> list[str]:
        """All that runs or stands."""
        return [*self.processes(), *sorted(self.links()), *self.rules().splitlines()]


def allow(cloud: RealCloud, **rule: Any) -> str:
    """A rule in the admin's default group; its id."""
    project_id = cloud.named("/identity/v3/projects", "admin")["id"]
    [group] = cloud.ask("GET", f"/network/v2.0/security-groups?project_id={project_id}")["security_groups"]
    body = {"security_group_rule": {"security_group_id": group["id"], "direction": "ingress"} | rule}
    return cloud.ask("POST", "/network/v2.0/security-group-rules", body)["security_group_rule"]["id"]


def address_of(server: dict[str, Any]) -> str:
    """The first address that the API says a server has."""
    return server["addresses"]["default"][0]["addr"]


def _processes() -> Iterator[tuple[int, str, int]]:
    """Number, command line and network namespace of each process but this one and what has ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command:
                    yield int(entry.name), command, (entry / "ns" / "net").stat().st_ino
            except OSError:
                continue


@contextmanager
def real_cloud(folder: Path, *arguments: str, within: tuple[str, ...] = ()) -> Iterator[RealCloud]:
    """A cloud with real guests that has started; nothing is left of it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    cloud = RealCloud(folder / "cloud", "--libvirt", *arguments, within=within)
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.remove()
