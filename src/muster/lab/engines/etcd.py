"""etcd: a cluster of members that know each other from the start."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from muster.lab.engines.programs import program

#: Who a member may run as where the caller is root; Debian's package makes it.
ACCOUNT = "etcd"


class EtcdMember(Struct, frozen=True, kw_only=True):
    """One member: its name in the cluster, the address that it listens on and is reached by, and its ports."""

    name: str
    address: str
    client_port: int = 2379
    peer_port: int = 2380

    @property
    def endpoint(self) -> str:
        """Where clients reach it."""
        return f"{self.address}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """Where other members reach it."""
        return f"http://{self.address}:{self.peer_port}"


def member_command(
    member: EtcdMember,
    members: Sequence[EtcdMember],
    data: Path,
    *,
    scheme: str = "http",
    options: Sequence[str] = (),
) -> list[str]:
    """Runs a member in the foreground; the first time it joins `members`, later it goes on with its `data`.

    `scheme` is how clients talk to it; `options` are further flags, TLS for example.
    """
    client = f"{scheme}://{member.endpoint}"
    flags = {
        "name": member.name,
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": member.peer_url,
        "initial-advertise-peer-urls": member.peer_url,
        "initial-cluster": ",".join(f"{one.name}={one.peer_url}" for one in members),
    }
    return [program("etcd", "etcd-server"), *(f"--{name}={value}" for name, value in flags.items()), *options]


def ctl_command(endpoints: Sequence[str], *words: str) -> list[str]:
    """Asks the members at these endpoints; credentials belong into its environment (ETCDCTL_USER), not here."""
    return [program("etcdctl", "etcd-client"), f"--endpoints={','.join(endpoints)}", *words]
