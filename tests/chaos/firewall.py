"""A firewall that forgets idle flows and drops what it does not know, between a host and the engines.

Real conntrack, real engines, in namespaces of their own.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from muster.lab.engines import postgresql
from muster.lab.engines.rabbitmq import Broker, server_command, write_configuration
from tests.engines.processes import Server
from tests.system.namespaces import enter, inside

#: The scale: forgotten after so long, as real ones forget after an hour.
FORGETS_S = 3
#: For what is lost; a message without keepalive takes up to a minute.
PATIENCE_S = 150.0
ENGINES = "10.77.2.2"
RABBITMQ_URL = f"amqp://muster:muster@{ENGINES}:5672"
DATABASE_URL = f"postgresql://postgres@{ENGINES}/postgres"

T = TypeVar("T")

# As firewalls are: only SYN makes a new entry, and what has none is dropped without a word.
_RULES = """
table inet forgetful {
    counter rabbitmq { }
    counter postgresql { }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        tcp flags & (syn | ack) == syn ct state new accept
        tcp sport 5672 counter name rabbitmq
        tcp dport 5672 counter name rabbitmq
        tcp sport 5432 counter name postgresql
        tcp dport 5432 counter name postgresql
    }
}
"""
_SWITCHES = {
    "net.ipv4.ip_forward": 1,
    "net.netfilter.nf_conntrack_tcp_timeout_established": FORGETS_S,
    "net.netfilter.nf_conntrack_tcp_loose": 0,
}


class Site:
    """Three namespaces in a row: host, firewall, engines; RabbitMQ and PostgreSQL in the last."""

    def __init__(self, folder: Path) -> None:
        name = uuid.uuid4().hex[:8]
        self.host, self.wall, self.engines = (f"muster-{kind}-{name}" for kind in ("host", "wall", "engines"))
        self._folder = folder
        self._servers: list[Server] = []

    def start(self) -> None:
        for name in (self.host, self.wall, self.engines):
            sh(f"ip netns add {name}")
            sh(f"ip -n {name} link set lo up")
        for name, link, network in ((self.host, "left", "10.77.1"), (self.engines, "right", "10.77.2")):
            sh(f"ip -n {self.wall} link add {link} type veth peer name eth0 netns {name}")
            sh(f"ip -n {self.wall} addr add {network}.1/24 dev {link}")
            sh(f"ip -n {self.wall} link set {link} up")
            sh(f"ip -n {name} addr add {network}.2/24 dev eth0")
            sh(f"ip -n {name} link set eth0 up")
            sh(f"ip -n {name} route add default via {network}.1")
        sh(f"ip netns exec {self.wall} nft -f -", _RULES)
        for switch, value in _SWITCHES.items():
            sh(f"ip netns exec {self.wall} sysctl -qw {switch}={value}")
        self._start_rabbitmq()
        self._start_postgresql()

    def dropped(self, engine: str) -> int:
        """Packets of forgotten flows to and from an engine so far."""
        words = sh(f"ip netns exec {self.wall} nft list counter inet forgetful {engine}").split()
        return int(words[words.index("packets") + 1])

    def remove(self) -> None:
        for server in reversed(self._servers):
            server.kill()
        for name in (self.host, self.wall, self.engines):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30, check=False)

    def _start_rabbitmq(self) -> None:
        folder = self._folder / "rabbitmq"
        folder.mkdir()
        write_configuration(folder, "muster", "muster")
        node = Broker(name="idle", folder=folder, address=ENGINES)
        environment = node.environment(os.environ["PATH"])
        self._serve(node.mapper_command(), folder / "epmd.log", environment=environment)
        self._serve(server_command(), folder / "log", environment=environment)
        self._servers[-1].await_ready(lambda: inside(self.host, lambda: _answers(5672)))

    def _start_postgresql(self) -> None:
        folder = self._folder / "postgresql"
        folder.mkdir()
        account = pwd.getpwnam(postgresql.ACCOUNT)
        for place in (self._folder, folder):
            os.chown(place, account.pw_uid, account.pw_gid)
        become = ["setpriv", "--reuid", postgresql.ACCOUNT, "--regid", postgresql.ACCOUNT, "--clear-groups"]
        data = folder / "data"
        sh([*become, *postgresql.initdb_command(data, "--auth=trust", "--no-sync")])
        with (data / "pg_hba.conf").open("a") as access:
            access.write("host all all 10.77.0.0/16 trust\n")
        settings = {"listen_addresses": ENGINES, "unix_socket_directories": str(folder), "fsync": "off"}
        self._serve([*become, *postgresql.server_command(data, settings)], self._folder / "postgresql.log")
        self._servers[-1].await_ready(lambda: inside(self.host, lambda: _answers(5432)))

    def _serve(self, command: Sequence[str], log: Path, **options: Any) -> None:
        server = Server(["ip", "netns", "exec", self.engines, *command], log, **options)
        server.start()
        self._servers.append(server)


class Side:
    """A process of the cluster, played by a thread with an event loop in a network namespace."""

    def __init__(self, namespace: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self._stack = contextlib.AsyncExitStack()
        self._thread.start()

    def keep(self, ending: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """To be awaited at the end."""
        self._stack.push_async_callback(ending)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(PATIENCE_S)

    def close(self) -> None:
        self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _run(self, namespace: str) -> None:
        enter(namespace)
        self._loop.run_forever()


def sh(command: str | Sequence[str], text: str | None = None) -> str:
    words = command.split() if isinstance(command, str) else command
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ENGINES, port)) == 0
