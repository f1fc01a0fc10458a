"""What a host's servers share: networks and security groups that change, and sweeps of what nobody needs any more.

Invariants: a change is applied once, with the next batch or alone; one that fails holds up no server; a sweep never
overlaps a batch that plumbs (both belong to the build lane).
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.host.agenda import Agenda
from muster.host.desired import DesiredState
from muster.host.plan import Step
from muster.host.records import Record
from muster.host.work import Changed, Works

_NOTHING = Changed()


class Surroundings:
    """Kept by the reconciler. `wake` is called when something has become due again."""

    def __init__(
        self,
        works: Works,
        desired: DesiredState,
        records: Mapping[str, Record],
        agenda: Agenda,
        wake: Callable[[], None],
    ) -> None:
        self._works = works
        self._desired = desired
        self._records = records
        self._agenda = agenda
        self._wake = wake
        self._networks: dict[str, None] = {}
        self._groups: dict[str, None] = {}
        self._sweep_due = True  # an earlier process may have left anything
        self._sweep_wanted = False
        self._held = False

    @property
    def due(self) -> bool:
        """Something waits that no server's batch need wait for."""
        return not self._held and bool(self._networks or self._groups or self._may_sweep())

    def changed(self, networks: Iterable[str], groups: Iterable[str]) -> None:
        """These have a newer spec."""
        self._networks.update(dict.fromkeys(networks))
        self._groups.update(dict.fromkeys(groups))

    def loosen(self) -> None:
        """Something may be left over: the next periodic round sweeps."""
        self._sweep_wanted = True

    def every_so_often(self) -> None:
        """The periodic round: forget networks and groups that no port is in any more, sweep if something may be left
        over."""
        self._desired.forget_unused()
        if self._sweep_wanted:
            self._sweep_wanted, self._sweep_due = False, True

    async def enter(self) -> Changed:
        """Sweep if that is due; returns what changed, to go along with the batch. Raises Transient: begin nothing."""
        if self._may_sweep():
            if self._held:
                raise Transient("the sweep before this batch waits to be tried again")
            await self._sweep()
        networks, groups = self._networks, self._groups
        if not networks and not groups:
            return _NOTHING
        self._networks, self._groups = {}, {}
        known_networks, known_groups = self._desired.networks.specs, self._desired.groups.specs
        in_use = {port.network_id for record in self._records.values() for port in record.plumbed or ()}
        return Changed(
            networks=tuple(known_networks[id_] for id_ in networks if id_ in in_use and id_ in known_networks),
            groups=tuple(known_groups[id_] for id_ in groups if id_ in known_groups),
        )

    async def apply(self, step: Step, changed: Changed) -> None:
        """Do a step for the changes alone: all together or, where that does not work, one by one. Raises nothing: what
        is away is tried again later, what is bad is logged."""
        parts = changed.parts(step)
        if len(parts) > 1:
            with contextlib.suppress(Exception):  # whoever spoils it shows up alone
                await self._works.do(step, (), changed)
                return
        for part in parts:
            try:
                await self._works.do(step, (), part)
            except Transient as error:
                self._give_back(part, error.retry_after_s)
            except Exception as error:  # one bad group or network must not stop the others
                ids = [network.id for network in part.networks] + [group.id for group in part.groups]
                get_logger(__name__).error(
                    "change refused", action="host.change", step=step, ids=ids, error=repr(error)
                )

    def _give_back(self, changed: Changed, retry_after_s: float) -> None:
        """These could not be changed now; they come again after `retry_after_s`."""
        self._groups.update(dict.fromkeys(group.id for group in changed.groups))
        self._networks.update(dict.fromkeys(network.id for network in changed.networks))
        self._hold(retry_after_s)

    def _may_sweep(self) -> bool:
        """A stray's ports are not known: while it is not known what it is, its taps must not go."""
        return self._sweep_due and not any(r.stray and r.guest is not None for r in self._records.values())

    async def _sweep(self) -> None:
        self._sweep_due = False
        failed = [r for r in self._records.values() if r.failed and r.failed[0] == r.generation and not r.up]
        left_out = {record.server_id for record in failed}
        servers = [r.spec for id_, r in self._records.items() if r.wanted and r.spec and id_ not in left_out]
        try:
            if not await self._works.sweep(servers):
                self._sweep_wanted = True
        except Transient as error:
            self._sweep_due = True
            self._hold(error.retry_after_s)
            raise
        except Exception as error:  # a server that cannot be plumbed shows up at its own step
            get_logger(__name__).error("sweep failed", action="host.sweep", error=repr(error))
            self._sweep_wanted = True
        else:
            for server in servers:  # what an earlier agent plugged in of these still stands
                if (record := self._records.get(server.id)) is not None:  # else it has gone meanwhile
                    record.may_stand(server.ports)

    def _hold(self, delay_s: float) -> None:
        if not self._held:
            self._held = True
            self._agenda.after(delay_s, self._release)

    def _release(self) -> None:
        self._held = False
        self._wake()
