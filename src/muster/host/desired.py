"""What a host should have, kept from messages that may be lost, doubled, late or out of order. No I/O.

Invariants: of each server, network and group the highest generation seen is kept (the members of networks and groups
have one of their own, and a change of members waits for the one before it); a snapshot of everything removes only what
was told before it was taken; `seq` is the newest number up to which nothing is missing. What is forgotten was told of
within `seq`, so that whatever told of it before is late and brings nothing back. A snapshot of a new epoch (see
`domain.messages`) begins anew: nothing of an older one counts any more.

A number that was reached before, and now tells something else of a server, comes from a database that was set back.
Then everything is asked for, and also counts where it has the generations that are known.
"""

from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from muster.domain.group_members import remotes_of, with_members
from muster.domain.messages import Desired, epoch_of
from muster.domain.specs import GroupMembers, NetworkSpec, Power, SecurityGroupSpec, ServerSpec


class _Numbered(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def generation(self) -> int: ...


Spec = TypeVar("Spec", bound=_Numbered)
Whole = TypeVar("Whole", SecurityGroupSpec, NetworkSpec)

_NO_BASE = -1  # before the first snapshot no change continues anything
_AHEAD_MAX = 1_000  # beyond it only a snapshot helps, which is asked for anyway


class Changes(Struct, frozen=True, kw_only=True):
    """What a message changed, by id. `gone` are servers that a snapshot of everything has no more; `anew`: perhaps
    because the control plane was set back to before it knew them."""

    anew: bool = False
    servers: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Shelf(Generic[Spec]):
    """Specs of one kind by id, each with the number of the newest message that told of it."""

    def __init__(self) -> None:
        self._specs: dict[str, Spec] = {}
        self._told: dict[str, int] = {}

    @property
    def specs(self) -> Mapping[str, Spec]:
        """The newest spec of each."""
        return self._specs

    def clear(self) -> None:
        """Forget all."""
        self._specs.clear()
        self._told.clear()

    def learn(
        self, specs: Iterable[Spec], seq: int, *, only_known: bool = False, again: bool = False
    ) -> tuple[str, ...]:
        """Keep what is newer than known, or with `again` not older; with `only_known` nothing new is taken up. Returns
        the ids that changed."""
        changed = []
        for spec in specs:
            known = self._specs.get(spec.id)
            if known is None and only_known:
                continue
            self._told[spec.id] = max(seq, self._told.get(spec.id, 0))
            newest = spec if known is None else self._newest(known, spec, again=again)
            if newest != known:
                self._specs[spec.id] = newest
                changed.append(spec.id)
        return tuple(changed)

    def forget_others(self, ids: frozenset[str], seq: int) -> tuple[str, ...]:
        """Drop what was told up to `seq` and is not among `ids`. Returns the ids dropped."""
        gone = tuple(id_ for id_, told in self._told.items() if told <= seq and id_ not in ids)
        for id_ in gone:
            del self._specs[id_], self._told[id_]
        return gone

    def forget(self, id_: str, seq: int) -> bool:
        """Drop one that was told of up to `seq`, nothing of which is missing. Returns whether that could be done."""
        if self._told.get(id_, seq + 1) > seq:
            return False
        del self._specs[id_], self._told[id_]
        return True

    def _newest(self, known: Spec, spec: Spec, *, again: bool) -> Spec:
        return spec if spec.generation + again > known.generation else known


class MemberShelf(Shelf[Whole]):
    """Specs with members: security groups, and networks, whose members are hosts.

    Changes of members come one by one; those that do not fit yet are kept for a while.
    """

    def __init__(self) -> None:
        super().__init__()
        self._early: dict[str, dict[int, tuple[int, GroupMembers]]] = {}  # by group and generation, with its `seq`

    def clear(self) -> None:
        super().clear()
        self._early.clear()

    @property
    def behind(self) -> bool:
        """A change of members before one that was seen is missing."""
        return bool(self._early)

    def learn_all(
        self, specs: Iterable[Whole], changes: Iterable[GroupMembers], seq: int, *, only_known: bool, again: bool
    ) -> tuple[str, ...]:
        """`learn`, then `learn_members`. Returns the ids that changed."""
        told: tuple[str, ...] = self.learn(specs, seq, only_known=only_known, again=again)
        return tuple(dict.fromkeys((*told, *self.learn_members(changes, seq))))

    def learn_members(self, changes: Iterable[GroupMembers], seq: int) -> tuple[str, ...]:
        """Take in how members changed. Returns the ids of the owners that changed."""
        for change in changes:
            waiting = self._early.setdefault(change.id, {})
            if len(waiting) < _AHEAD_MAX:
                waiting[change.generation] = (seq, change)
        return tuple(group_id for group_id in list(self._early) if self._catch_up(group_id))

    def forget_others(self, ids: frozenset[str], seq: int) -> tuple[str, ...]:
        """See `Shelf`. A change of members that is older than the snapshot need not wait any more."""
        for group_id, waiting in list(self._early.items()):
            self._wait(group_id, {number: early for number, early in waiting.items() if early[0] > seq})
        return super().forget_others(ids, seq)

    def forget(self, id_: str, seq: int) -> bool:
        return id_ not in self._early and super().forget(id_, seq)

    def let_go_unknown(self, seq: int) -> None:
        """Changes of members, told up to `seq`, of which nothing is missing, need not wait for an owner that is not
        known: whatever tells of it from now on was sent later."""
        for id_ in [id_ for id_ in self._early if id_ not in self._specs]:
            self._wait(id_, {number: early for number, early in self._early[id_].items() if early[0] > seq})

    def _newest(self, known: Whole, spec: Whole, *, again: bool) -> Whole:
        newest = spec if spec.generation + again > known.generation else known
        members = spec if spec.member_generation + again > known.member_generation else known
        if newest is members:
            return newest
        return replace(newest, member_generation=members.member_generation, members=members.members)

    def _catch_up(self, group_id: str) -> bool:
        before = spec = self._specs.get(group_id)
        if spec is None or spec.member_generation < 0:
            return False
        waiting = self._early[group_id]
        while (early := waiting.get(spec.member_generation + 1)) is not None:
            spec = with_members(spec, early[1])
        reached = spec.member_generation
        self._wait(group_id, {number: early for number, early in waiting.items() if number > reached})
        self._specs[group_id] = spec
        return spec is not before

    def _wait(self, group_id: str, waiting: dict[int, tuple[int, GroupMembers]]) -> None:
        if waiting:
            self._early[group_id] = waiting
        else:
            del self._early[group_id]


class DesiredState:
    """All that one host should have; see the module."""

    def __init__(self) -> None:
        self.servers: Shelf[ServerSpec] = Shelf()
        self.networks: MemberShelf[NetworkSpec] = MemberShelf()
        self.groups: MemberShelf[SecurityGroupSpec] = MemberShelf()
        # False until a snapshot of everything has come: before it, nothing is known to be superfluous or outdated.
        self.complete = False
        # Servers were forgotten since the newest snapshot: a report of everything lacks them, whoever missed theirs.
        self.forgetful = False
        self._seq = _NO_BASE
        self._ahead: set[tuple[int, int]] = set()
        self._epoch = 0
        self._outdated = False  # something of a newer epoch was told, of which no snapshot has come
        self._doubted = False  # something was told under a number that had told something else

    @property
    def seq(self) -> int:
        """Up to this number nothing is missing; 0 before the first snapshot."""
        return max(0, self._seq)

    @property
    def behind(self) -> bool:
        """Something before what was seen is missing, or everything is."""
        lacking = not self.complete or self._outdated or self._doubted or bool(self._ahead)
        return lacking or self.groups.behind or self.networks.behind

    def apply(self, message: Desired) -> Changes:
        """Take in a message; it may be any message ever sent to this host. Costs what it holds (a snapshot: what is
        known)."""
        epoch = epoch_of(message.to_seq)
        if epoch == self._epoch:
            return self._apply(message)
        if epoch > self._epoch and message.everything:
            return self._begin_anew(message)
        self._outdated = self._outdated or epoch > self._epoch
        return Changes()

    def _begin_anew(self, message: Desired) -> Changes:
        known = set(self.servers.specs)
        for shelf in (self.servers, self.networks, self.groups):
            shelf.clear()
        self._epoch, self._outdated, self._seq, self._ahead = epoch_of(message.to_seq), False, _NO_BASE, set()
        changes = self._apply(message)
        return replace(changes, gone=tuple(sorted(known - self.servers.specs.keys())), anew=True)

    def _apply(self, message: Desired) -> Changes:
        gone: tuple[str, ...] = ()
        # What is covered already can tell of nothing new, but of servers long removed.
        old = message.to_seq < self._seq + (0 if message.everything else 1)
        again = message.everything and not old and self._doubted
        if message.everything:
            gone = self._forget_others(message)
        elif old:
            self._doubted = self._doubted or any(map(self._is_news, message.servers))
        seq, networks, groups = message.to_seq, message.networks, message.groups
        changes = Changes(
            servers=self.servers.learn(message.servers, seq, only_known=old, again=again),
            networks=self.networks.learn_all(networks, message.peers, seq, only_known=old, again=again),
            groups=self.groups.learn_all(groups, message.members, seq, only_known=old, again=again),
            gone=gone,
        )
        self._count(message)
        self.networks.let_go_unknown(self._seq)
        if self.is_newest(message):
            self.forgetful = self._doubted = False
        return changes

    def _is_news(self, spec: ServerSpec) -> bool:
        """Whether it is not what was told before, nor of a server that has gone since."""
        known = self.servers.specs.get(spec.id)
        if known is None:
            return spec.power is not Power.ABSENT
        return spec.generation >= known.generation and spec != known

    def forget_server(self, server_id: str) -> bool:
        """Drop a server of which nothing is left. Returns False where a message of before may still bring it back."""
        forgotten = self.servers.forget(server_id, self._seq)
        self.forgetful = self.forgetful or forgotten
        return forgotten

    def forget_unused(self) -> None:
        """Drop networks of which no server has a port, and security groups that no server's port is in, and no rule of
        one that is used names. Costs what is known.

        Should one be needed again before the control plane has heard that its last port went, it is missed and asked
        for: the group, or of the network, which comes with each server, its members (`ReconcilerSettings`).
        """
        ports = [port for spec in self.servers.specs.values() for port in spec.ports]
        for id_ in self.networks.specs.keys() - {port.network_id for port in ports}:
            self.networks.forget(id_, self._seq)
        groups = self.groups.specs
        used = {id_ for port in ports for id_ in port.security_group_ids}
        used |= {remote for id_ in used & groups.keys() for remote in remotes_of(groups[id_])}
        for id_ in groups.keys() - used:
            self.groups.forget(id_, self._seq)

    def is_newest(self, message: Desired) -> bool:
        """Whether this message, once taken in, is a snapshot that lacks nothing which is known."""
        return message.everything and message.to_seq >= self._seq and not self._ahead

    def _forget_others(self, message: Desired) -> tuple[str, ...]:
        seq = message.to_seq
        self.networks.forget_others(frozenset(spec.id for spec in message.networks), seq)
        self.groups.forget_others(frozenset(spec.id for spec in message.groups), seq)
        return self.servers.forget_others(frozenset(spec.id for spec in message.servers), seq)

    def _count(self, message: Desired) -> None:
        if message.everything:
            self.complete = True
            self._seq = max(self._seq, message.to_seq)
        elif message.to_seq > self._seq and len(self._ahead) < _AHEAD_MAX:
            self._ahead.add((message.from_seq, message.to_seq))
        for from_seq, to_seq in sorted(self._ahead):
            if from_seq <= self._seq:
                self._seq = max(self._seq, to_seq)
        self._ahead = {span for span in self._ahead if span[1] > self._seq}
