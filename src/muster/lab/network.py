"""A lab's network: a namespace for each part, and a switch that joins them and the namespace of the caller.

    caller's namespace        switch's namespace              a part's namespace
    mlabID .1 ------------- caller [bridge lab] NAME ------------- eth0

Invariant: whatever the kernel has of a lab is found by the lab's id alone, so that a lab can be removed without its
records. Everything here is done by `ip`, in batches.
"""

import json
import subprocess
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, ip_interface
from pathlib import Path

from muster.base.errors import Conflict, MusterError, Transient, Unsupported
from muster.lab.engines.programs import program
from muster.lab.plan import Plan

_NAMED = Path("/run/netns")
_SWITCH = "switch"
_BRIDGE = "lab"
_CALLER = "caller"
_TIMEOUT_S = 60.0


def namespace(lab_id: str, part: str) -> str:
    """The network namespace of a part."""
    return f"muster-lab-{lab_id}-{part}"


def namespaces(lab_id: str) -> dict[str, Path]:
    """The namespaces that a lab has, by part; the switch's is one of them."""
    prefix = namespace(lab_id, "")
    found = sorted(_NAMED.glob(f"{prefix}*"))
    return {path.name.removeprefix(prefix): path for path in found}


def link_name(lab_id: str) -> str:
    """The link in the caller's namespace."""
    return f"mlab{lab_id}"


def taken_networks() -> list[str]:
    """The addresses and routes of the caller's namespace, as `ip` writes them."""
    routes = [route["dst"] for route in json.loads(_ip(["-j", "-4", "route", "show", "table", "all"]) or "[]")]
    return [*routes, *(address for address, _ in _addresses())]


def build(plan: Plan) -> None:
    """Make the namespaces, the switch and the links. Raises Conflict when something of that name is there."""
    lab_id, switch = plan.lab_id, namespace(plan.lab_id, _SWITCH)
    if namespaces(lab_id) or _exists(link_name(lab_id)):
        raise Conflict(f"something of a lab {lab_id} is here already; `muster lab down` with its folder removes it")
    _batch([f"netns add {namespace(lab_id, name)}" for name in (_SWITCH, *(part.name for part in plan.parts))])
    _batch([f"link add {_BRIDGE} type bridge", f"link set {_BRIDGE} up", "link set lo up"], switch)
    ends = [f"link add {part.name} netns {switch} type veth peer eth0 netns {namespace(lab_id, part.name)}"
            for part in plan.parts]  # fmt: skip
    own = link_name(lab_id)
    _batch([*ends, f"link add {own} type veth peer {_CALLER} netns {switch}"])
    _batch(
        [
            f"link set {name} addrgenmode none master {_BRIDGE} up"
            for name in (_CALLER, *(part.name for part in plan.parts))
        ],
        switch,
    )
    for part in plan.parts:
        up = ["link set lo up", f"addr add {part.address}/24 dev eth0", "link set eth0 addrgenmode none up"]
        _batch(up, namespace(lab_id, part.name))
    _batch([f"addr add {plan.caller_address}/24 dev {own}", f"link set {own} addrgenmode none up"])
    if others := _links_in(IPv4Network(plan.subnet)) - {own}:  # made since the subnet was looked for
        raise Conflict(f"{', '.join(others)} has got addresses of the lab's subnet {plan.subnet} meanwhile; try again")


def remove(lab_id: str) -> list[str]:
    """Remove what there is of it; no process may be in it any more. Returns the names of namespaces and links."""
    removed = []
    if _exists(link_name(lab_id)):
        _ip(["link", "del", link_name(lab_id)])
        removed.append(link_name(lab_id))
    there = [path.name for path in namespaces(lab_id).values()]
    _batch(f"netns del {name}" for name in there)  # with all that is in them
    return removed + there


def cut(lab_id: str, part: str) -> None:
    """Pull the part's cable: what it sends and what is sent to it vanishes."""
    _ip(["-n", namespace(lab_id, _SWITCH), "link", "set", part, "down"])


def join(lab_id: str, part: str) -> None:
    """Plug it in again."""
    _ip(["-n", namespace(lab_id, _SWITCH), "link", "set", part, "up"])


def slow(lab_id: str, part: str, kbit_s: int | None) -> None:
    """Let no more than so many kilobits per second to and from the part; None lifts the limit.

    What does not fit waits for up to a second, and is lost beyond that.
    """
    for space, device in ((namespace(lab_id, _SWITCH), part), (namespace(lab_id, part), "eth0")):
        where = ["-n", space, "qdisc"]
        if kbit_s is None:
            if '"tbf"' in _run([program("tc", "iproute2"), "-j", *where, "show", "dev", device]):
                _run([program("tc", "iproute2"), *where, "del", "dev", device, "root"])
        else:
            words = f"replace dev {device} root tbf rate {kbit_s}kbit burst {max(kbit_s // 8 // 100, 4)}kb latency 1s"
            _run([program("tc", "iproute2"), *where, *words.split()])


def joined(lab_id: str) -> set[str]:
    """The parts whose cables are in."""
    return {name for name, is_up in _links(lab_id).items() if is_up}


def _links_in(subnet: IPv4Network) -> set[str]:
    """The links of the caller's namespace that have addresses of a subnet."""
    return {link for address, link in _addresses() if ip_interface(address).network.overlaps(subnet)}


def _addresses() -> list[tuple[str, str]]:
    """The addresses of the caller's namespace, with their prefix length, and their links."""
    links = json.loads(_ip(["-j", "-4", "addr", "show"]) or "[]")
    return [(f"{at['local']}/{at['prefixlen']}", link["ifname"]) for link in links for at in link.get("addr_info", [])]


def _links(lab_id: str) -> dict[str, bool]:
    """The switch's links, and whether each is up."""
    found = json.loads(_ip(["-n", namespace(lab_id, _SWITCH), "-j", "link", "show", "type", "veth"]) or "[]")
    return {link["ifname"]: "UP" in link["flags"] for link in found if link}


def _exists(link: str) -> bool:
    return subprocess.run([_program(), "link", "show", link], check=False, capture_output=True).returncode == 0


def _batch(lines: Iterable[str], space: str | None = None) -> None:
    _ip([*(["-n", space] if space else []), "-batch", "-"], "\n".join(lines) + "\n")


def _ip(words: Collection[str], text: str = "") -> str:
    return _run([_program(), *words], text)


def _program() -> str:
    return program("ip", "iproute2")


def _run(command: Collection[str], text: str = "") -> str:
    """The output of a command. Raises Transient when it hangs, Unsupported when it cannot do it here."""
    try:
        done = subprocess.run(list(command), input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{' '.join(command)} hangs") from error
    except subprocess.CalledProcessError as error:
        raise _failed(error) from error
    return done.stdout


def _failed(error: "subprocess.CalledProcessError") -> MusterError:
    return Unsupported(f"{' '.join(error.cmd)}: {error.stderr.strip()}")
