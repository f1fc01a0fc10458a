"""One nftables transaction as a value, and the picture of what stands in the kernel that it is decided on.

Invariant: `Mirror` changes only by `load` (what nft lists) and `commit` (what a transaction that succeeded contained);
so a transaction is always the difference to what is there, and as large as that difference.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from muster.host.network.elements import PORT_SETS, Elements, element_of, tap_of
from muster.host.network.ruleset import TABLE

BRIDGE_SETS = ("bridges", "bridged", "zones")  # in the inet table, one element per network
TUNNEL_SETS = ("tunnels", "port_zones")  # in the bridge table
_MEMBER_SETS = ("m4_", "m6_", "r4_", "r6_")
_OWN_CHAINS = ("e_", "i_", "ge_", "gi_", "pr_")
_NEVER_EMPTY = ("e_", "i_", "pr_")  # they end with a drop

_Table = list[dict[str, Any]]


class Transaction:
    """Collects changes in any order; `text` puts them in the order that nft needs."""

    def __init__(self) -> None:
        self.sets: dict[str, str] = {}
        self.chains: dict[str, tuple[str, ...]] = {}
        self.added: dict[str, set[str]] = {}
        self.deleted: dict[str, set[str]] = {}
        self.flushed: set[str] = set()
        self.dropped_chains: dict[str, None] = {}
        self.dropped_sets: dict[str, None] = {}

    def change(self, set_name: str, have: Set[str], want: Set[str]) -> None:
        """Bring the elements of `have` to `want`; saying it twice is saying it once."""
        if gone := have - want:
            self.deleted.setdefault(set_name, set()).update(gone)
        if new := want - have:
            self.added.setdefault(set_name, set()).update(new)

    def text(self) -> str:
        """The transaction in nft's language; empty when nothing changes."""
        lines = [f"add set bridge {TABLE} {name} {declared}" for name, declared in self.sets.items()]
        lines += [f"add chain bridge {TABLE} {name}" for name in self.chains]
        for name, rules in self.chains.items():
            lines.append(f"flush chain bridge {TABLE} {name}")
            lines += [f"add rule bridge {TABLE} {name} {rule}" for rule in rules]
        lines += [f"flush set bridge {TABLE} {name}" for name in sorted(self.flushed)]
        lines += self._elements("delete", self.deleted)
        lines += self._elements("add", self.added)
        lines += [f"flush chain bridge {TABLE} {name}" for name in self.dropped_chains]
        lines += [f"delete chain bridge {TABLE} {name}" for name in self.dropped_chains]
        lines += [f"delete set bridge {TABLE} {name}" for name in self.dropped_sets]
        return "".join(f"{line}\n" for line in lines)

    @staticmethod
    def _elements(verb: str, changes: Mapping[str, set[str]]) -> Iterable[str]:
        for name, elements in sorted(changes.items()):
            family = "inet" if name in BRIDGE_SETS else "bridge"
            # A map's element is deleted by its key alone.
            keys = elements if verb == "add" else {element.split(" : ")[0] for element in elements}
            yield f"{verb} element {family} {TABLE} {name} {{ {', '.join(sorted(keys))} }}"


class Mirror:
    """What stands in Muster's tables: chains, sets of members, and elements by set and owner (a tap or bridge)."""

    def __init__(self) -> None:
        self.chains: set[str] = set()
        self.member_sets: set[str] = set()
        self._elements: dict[str, dict[str, set[str]]] = {}

    def load(self, bridge: _Table, inet: _Table) -> None:
        """Start anew from what nft lists of both tables."""
        self.__init__()  # type: ignore[misc]  # the one place where it starts anew
        for item in (*bridge, *inet):
            if "chain" in item and item["chain"]["name"].startswith(_OWN_CHAINS):
                self.chains.add(item["chain"]["name"])
            for kind in ("set", "map"):
                if kind in item:
                    self._load_set(item[kind]["name"], item[kind].get("elem", []))
        filled = {item["rule"]["chain"] for item in bridge if "rule" in item}
        if any(chain.startswith(_NEVER_EMPTY) for chain in self.chains - filled):
            self.chains.clear()  # somebody has flushed them: all are to be written anew

    def commit(self, done: Transaction) -> None:
        """Take over what a transaction has changed."""
        self.member_sets |= done.sets.keys()
        self.chains |= done.chains.keys()
        for name in done.flushed:
            self._elements.pop(name, None)
        for name, gone in done.deleted.items():
            for element in gone:
                self._owned(name, element).discard(element)
        for name, new in done.added.items():
            for element in new:
                self._owned(name, element).add(element)
        self.chains -= done.dropped_chains.keys()
        self.member_sets -= done.dropped_sets.keys()
        for name in done.dropped_sets:
            self._elements.pop(name, None)

    def of(self, set_name: str, owner: str = "") -> Set[str]:
        """Elements of an owner in a set, as they are until the next `load` or `commit`."""
        return self._elements.get(set_name, {}).get(owner, frozenset())

    def owners(self, set_names: Iterable[str]) -> set[str]:
        """Everybody who has an element in one of these sets."""
        return {owner for name in set_names for owner, has in self._elements.get(name, {}).items() if has}

    def has(self, owner: str) -> bool:
        """Whether anything stands for a tap."""
        return any(self._elements.get(name, {}).get(owner) for name in PORT_SETS)

    def taps(self) -> set[str]:
        """Every tap that anything stands for."""
        return self.owners(PORT_SETS)

    def put(self, transaction: Transaction, owner: str, wanted: Elements, names: Iterable[str] = PORT_SETS) -> None:
        """Plan that `owner` has these elements, and no others, in the sets `names`."""
        for name in names:
            transaction.change(name, self.of(name, owner), wanted.get(name, frozenset()))

    def _load_set(self, name: str, values: Iterable[Any]) -> None:
        if name.startswith(_MEMBER_SETS):
            self.member_sets.add(name)
            self._elements[name] = {"": {_member_of(value) for value in values}}
            return
        for value in values:
            element = element_of(name, value)
            self._owned(name, element).add(element)

    def _owned(self, name: str, element: str) -> set[str]:
        owner = "" if name.startswith(_MEMBER_SETS) else tap_of(element)
        return self._elements.setdefault(name, {}).setdefault(owner, set())


def _member_of(value: Any) -> str:
    if isinstance(value, dict):
        if "prefix" in value:
            return f"{value['prefix']['addr']}/{value['prefix']['len']}"
        return "-".join(value.get("range", ("?",)))
    return str(value)
