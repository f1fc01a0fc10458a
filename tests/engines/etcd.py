"""An etcd cluster of one's own: any number of members, each a process that can be killed, paused and started again."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.free_ports import free_port
from muster.lab.engines.etcd import EtcdMember, ctl_command, member_command
from tests.engines.processes import START_TIMEOUT_S, Server

#: Each member reserves this much twice, for its log and for the one after it. At its start it has used next to nothing.
_LOG_BYTES = 64_000_000
_USED_BYTES = 8 << 20


class Member:
    """One member."""

    def __init__(self, name: str, folder: Path) -> None:
        self.settings = EtcdMember(name=name, address="127.0.0.1", client_port=free_port(), peer_port=free_port())
        self.name = name
        self.folder = folder
        self.server: Server | None = None

    @property
    def endpoint(self) -> str:
        return self.settings.endpoint

    @property
    def is_running(self) -> bool:
        return self.server is not None and self.server.process is not None and self.server.process.poll() is None

    def kill(self) -> None:
        assert self.server is not None
        self.server.kill()

    def signal(self, number: signal.Signals) -> None:
        assert self.server is not None
        assert self.server.process is not None
        os.kill(self.server.process.pid, number)


class Etcd:
    """A cluster. `options` are further flags of each member, TLS for example."""

    def __init__(self, folder: Path, members: int = 1, *, options: Sequence[str] = (), scheme: str = "http") -> None:
        self.folder = folder
        self.members = [Member(f"m{index}", folder) for index in range(members)]
        self._options = list(options)
        self._scheme = scheme
        self.ctl_options: list[str] = []

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def start(self) -> None:
        for member in self.members:
            self.start_member(member)
        self.await_healthy()
        self._give_back()

    def start_member(self, member: Member) -> None:
        """Start a member, or start it again with the data that it has."""
        command = member_command(
            member.settings,
            [one.settings for one in self.members],
            self.folder / member.name,
            scheme=self._scheme,
            options=self._options,
        )
        member.server = Server(command, self.folder / f"{member.name}.log")
        member.server.start()

    def await_healthy(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._ctl("endpoint", "health").returncode != 0:
            if time.monotonic() > deadline:
                logs = [path.read_text(errors="replace")[-2_000:] for path in self.folder.glob("*.log")]
                raise RuntimeError("etcd did not start:\n" + "\n".join(logs))
            time.sleep(0.1)

    def _give_back(self) -> None:
        """What the new members' logs reserve is free again, where files can have holes: in memory it is missed."""
        hole = ["fallocate", "--punch-hole", f"--offset={_USED_BYTES}", f"--length={_LOG_BYTES - _USED_BYTES}"]
        for log in [path for member in self.members for path in (self.folder / member.name).glob("member/wal/*")]:
            subprocess.run([*hole, str(log)], check=False, capture_output=True, timeout=120)

    def ctl(self, *words: str, endpoints: str | None = None) -> str:
        """What etcdctl prints, asking these members or any."""
        done = self._ctl(*words, endpoints=endpoints)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lease_ids(self) -> set[int]:
        """The leases that there are. A member lists those that it has heard of, so it is made to catch up first."""
        member = next(one for one in self.members if one.is_running)
        self.ctl("get", "/nothing", endpoints=member.endpoint)  # a linearizable read
        listed = json.loads(self.ctl("lease", "list", "--write-out=json", endpoints=member.endpoint))
        return {lease["id"] for lease in listed.get("leases") or []}

    def keys(self, prefix: str) -> int:
        """How many keys begin so."""
        found = json.loads(self.ctl("get", prefix, "--prefix", "--keys-only", "--write-out=json"))
        return len(found.get("kvs") or [])

    def leases(self) -> int:
        """How many leases there are."""
        return len(self.lease_ids())

    def leader(self) -> Member:
        status = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        leaders = {row["Endpoint"] for row in status if row["Status"]["header"]["member_id"] == row["Status"]["leader"]}
        return next(member for member in self.members if any(member.endpoint in one for one in leaders))

    def close(self) -> None:
        for member in self.members:
            if member.server is not None:
                if member.is_running:
                    member.signal(signal.SIGCONT)
                member.server.kill()

    def _ctl(self, *words: str, endpoints: str | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "ETCDCTL_API": "3"}
        patience = ("--command-timeout=60s", "--dial-timeout=20s")
        command = ctl_command([endpoints or self.endpoints], *patience, *self.ctl_options, *words)
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
