"""Servers are created in batches: one transaction for all that wait.

It holds quota, placement, ports with addresses under the subnets' locks, server rows, and last, since others wait for
hosts' rows, claims on hosts with what these must hear. What was answered 202 is committed; what could not be placed or
addressed is in ERROR with its fault, as with Nova.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import count

from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import Conflict, Exhausted, Invalid, MusterError, NotFound
from muster.base.ids import new_uuid
from muster.bus.protocol import Bus
from muster.domain.instance_actions import InstanceAction
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.server_shares import ask_of
from muster.domain.servers import Fault, NewServer, Server, WantedNic
from muster.domain.specs import Power
from muster.domain.timeline import ACCEPTED, PLACED
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.services.redecide import redeciding
from muster.services.server_admission import Wanted, admit
from muster.services.server_placement import Placement, ServerSettings
from muster.store import instance_actions as action_store
from muster.store import server_ports as port_store
from muster.store import servers as store
from muster.store.outbox import Change

# Port errors for which the request itself is to blame: it is refused before anything is made.
_CALLERS_FAULT = (NotFound, Invalid)


class ServerCreation:
    """The use case of `POST /servers`. Servers made while `bus` is away wait for it on hosts that were there before."""

    def __init__(self, ports: PortBatch, bus: Bus, settings: ServerSettings | None = None) -> None:
        self._ports = ports
        self._bus = bus
        self._settings = settings or ServerSettings()
        self._creates: Coalescer[Wanted, list[Server]] = Coalescer(self._create, name="servers.create")

    async def create(self, drafts: Sequence[NewServer], *, least: int | None = None) -> list[Server]:
        """Make the servers of one request, all alike: as many as quotas allow, but at least `least` (None: all).

        Raises Forbidden beyond quota, NotFound or Invalid for wrong names. Costs a share of one batch: its locks, one
        transaction of about 30 statements, one commit.
        """
        return await self._creates.submit(Wanted(tuple(drafts), len(drafts) if least is None else least))

    async def _create(self, requests: list[Wanted]) -> list[list[Server] | BaseException]:
        rounds = count()
        # What was decided on a picture that others have changed is decided again with the hosts' rows in hand.
        return await redeciding("servers.create", lambda: self._create_once(requests, claims_first=next(rounds) > 0))

    async def _create_once(self, requests: list[Wanted], *, claims_first: bool) -> list[list[Server] | BaseException]:
        network_ids = {nic.network_id for request in requests for nic in request.drafts[0].nics if nic.network_id}
        ports = [
            _port_of(draft, nic)
            for request in requests
            for draft in request.drafts
            for nic in draft.nics
            if nic.network_id and not nic.port_id
        ]
        async with self._ports.creation(network_ids, ports) as work:
            admitted = await admit(work, self._ports.quotas, requests)
            drafts = {draft.id: draft for one in admitted if not isinstance(one, MusterError) for draft in one}
            now = self._ports.clock()
            deaf_s = self._bus.away_s(self._settings.host_timeout_s)
            places = Placement(work.connection, now, self._settings, deaf_s=deaf_s, claims_first=claims_first)
            creation = _Creation(work, now, places)
            made, blamed = await creation.make(list(drafts.values()))
            outcomes: list[list[Server] | BaseException] = []
            dropped: list[NewServer] = []
            for one in admitted:
                if isinstance(one, MusterError):
                    outcomes.append(one)
                elif error := next((blamed[draft.id] for draft in one if draft.id in blamed), None):
                    outcomes.append(error)
                    dropped += one
                else:
                    outcomes.append([made[draft.id] for draft in one])
            await creation.drop(dropped)
            kept = [server for one in outcomes if isinstance(one, list) for server in one]
            await creation.write(kept, drafts)
        return outcomes


class _Creation:
    """The steps of one batch of creations, in one transaction."""

    def __init__(self, work: PortWork, now: float, places: Placement) -> None:
        self._work = work
        self._connection = work.connection
        self._now = now
        self._places = places
        self._placed: dict[str, str] = {}  # servers that have a host, and which
        self._ports: dict[str, list[str]] = defaultdict(list)  # made for a server
        self._bound: dict[str, list[str]] = defaultdict(list)  # there before, and bound to a server

    async def make(self, drafts: Sequence[NewServer]) -> tuple[dict[str, Server], dict[str, MusterError]]:
        """The servers as they will be written, by id, and those whose request is to blame for an error."""
        placed = self._placed = await self._places.place(drafts)
        refusals = await self._places.refusals([draft for draft in drafts if draft.id not in placed])
        failed: dict[str, MusterError] = {
            server_id: Exhausted(refused.message, explained=refused.details) for server_id, refused in refusals.items()
        }
        errors = await self._plug([draft for draft in drafts if draft.id in placed], placed)
        blamed: dict[str, MusterError] = {
            server_id: error for server_id, error in errors.items() if isinstance(error, _CALLERS_FAULT)
        }
        blamed |= {server_id: error for server_id, error in errors.items() if error.code == "compute.port_in_use"}
        await self._give_up([draft for draft in drafts if draft.id in errors])
        failed |= {server_id: error for server_id, error in errors.items() if server_id not in blamed}
        made = {
            draft.id: self._server(draft, None if draft.id in failed else placed[draft.id], failed.get(draft.id))
            for draft in drafts
            if draft.id not in blamed
        }
        return made, blamed

    async def drop(self, drafts: Sequence[NewServer]) -> None:
        """Take back what was made for requests that are refused after all."""
        if drafts:
            await self._unplug([draft.id for draft in drafts])
            await self._give_up(drafts)
            self._work.tally.give_back(ask_of([draft]) for draft in drafts)

    async def write(self, made: Sequence[Server], drafts: Mapping[str, NewServer]) -> None:
        """Rows, actions, claims and what hosts must hear of."""
        await store.insert_servers(self._connection, made)
        actions = [
            InstanceAction(
                server_id=server.id,
                action="create",
                request_id=drafts[server.id].request_id,
                user_id=server.user_id,
                project_id=server.project_id,
                started_at=drafts[server.id].accepted_at,
                updated_at=self._now,
                finished_at=self._now if server.fault else None,
                message="Error" if server.fault else None,
            )
            for server in made
        ]
        await action_store.insert(self._connection, actions)
        told = [Change(host_id=server.host_id, server_id=server.id) for server in made if server.host_id]
        if told:
            placed = [drafts[server.id] for server in made if server.host_id]
            await self._work.telling.hold({change.host_id for change in told})
            seqs = await self._places.settle(placed, self._placed)
            await self._work.telling.write(told, seqs)
            await self._places.close_groups({s.server_group_id for s in made if s.server_group_id and s.host_id})

    async def _give_up(self, drafts: Sequence[NewServer]) -> None:
        """These servers go to no host after all."""
        await self._places.release(drafts, self._placed)
        for draft in drafts:
            self._placed.pop(draft.id, None)

    async def _plug(self, drafts: Sequence[NewServer], placed: Mapping[str, str]) -> dict[str, MusterError]:
        """Make or bind each server's ports; returns the error of each server that cannot have them."""
        errors: dict[str, MusterError] = {}
        placed_nics = [(draft, place, nic) for draft in drafts for place, nic in enumerate(draft.nics)]
        named = [(draft, nic.port_id) for draft, _, nic in placed_nics if nic.port_id]
        hosts = self._places.hosts
        bindings = [
            port_store.WantedBinding(nic.port_id, draft.id, hosts[placed[draft.id]].hostname, place)
            for draft, place, nic in placed_nics
            if nic.port_id
        ]
        bound = await self._work.bind(bindings)
        for draft, port_id in named:
            if (port_id, draft.id) in bound:
                self._bound[draft.id].append(port_id)
            else:
                errors[draft.id] = Conflict(f"Port {port_id} is still in use.", code="compute.port_in_use")
        new = [
            (draft, self._new_port(draft, nic, place, placed[draft.id]))
            for draft, place, nic in placed_nics
            if draft.id not in errors and nic.network_id and not nic.port_id
        ]
        outcomes = await self._work.insert([port for _, port in new])
        for (draft, _), outcome in zip(new, outcomes, strict=True):
            if isinstance(outcome, Port):
                self._ports[draft.id].append(outcome.id)
            else:
                errors[draft.id] = outcome
        await self._unplug(errors)
        return errors

    async def _unplug(self, server_ids: Collection[str]) -> None:
        """Remove the ports that were made for these servers, and let go of those that were there before."""
        await self._work.remove([port_id for server_id in server_ids for port_id in self._ports.pop(server_id, ())])
        bound = [port_id for server_id in server_ids for port_id in self._bound.pop(server_id, ())]
        await self._work.unbind(bound, server_ids)

    def _new_port(self, draft: NewServer, nic: WantedNic, place: int, host_id: str) -> NewPort:
        host = self._places.hosts[host_id]
        return replace(
            _port_of(draft, nic),
            security_group_ids=draft.security_group_ids,
            device_id=draft.id,
            device_position=place,
            device_owner=f"compute:{host.availability_zone}",
            binding_host_id=host.hostname,
            dns_name=draft.hostname.partition(".")[0],
        )

    def _server(self, draft: NewServer, host_id: str | None, error: MusterError | None) -> Server:
        host = self._places.hosts.get(host_id or "")
        timeline = {ACCEPTED: draft.accepted_at}
        if error is None:
            timeline[PLACED] = self._now
        return Server(
            id=draft.id,
            project_id=draft.project_id,
            user_id=draft.user_id,
            name=draft.name,
            hostname=draft.hostname,
            description=draft.description,
            flavor=draft.flavor,
            image=draft.image,
            key_name=draft.key_name,
            public_key=draft.public_key,
            user_data=draft.user_data,
            injected_files=draft.injected_files,
            metadata=draft.metadata,
            config_drive=draft.config_drive,
            availability_zone=draft.availability_zone,
            disk_config=draft.disk_config,
            access_ip_v4=draft.access_ip_v4,
            access_ip_v6=draft.access_ip_v6,
            server_group_id=draft.server_group_id,
            reservation_id=draft.reservation_id,
            launch_index=draft.launch_index,
            locked=False,
            locked_reason=None,
            host_id=host_id,
            hostname_of_host=host.hostname if host else None,
            zone_of_host=host.availability_zone if host else None,
            vm_state="building" if error is None else "error",
            task_state="spawning" if error is None else None,
            power_state=0,
            power=Power.RUNNING,
            generation=1,
            boot_nonce=0,
            boot_hard=False,
            disk_nonce=0,
            fault=None if error is None else self._fault(error),
            timeline=timeline,
            created_at=draft.accepted_at,
            updated_at=self._now,
            launched_at=None,
            terminated_at=None,
            deleted_at=None,
            kept_port_ids=tuple(nic.port_id for nic in draft.nics if nic.port_id),
            interface_tags=draft.interface_tags,
            tags=draft.tags,
        )

    def _fault(self, error: MusterError) -> Fault:
        return Fault(500, error.message, str(error.details.get("explained", "")), self._now)


def _port_of(draft: NewServer, nic: WantedNic) -> NewPort:
    """A port as far as its addresses go, whatever host its server will be on."""
    return NewPort(
        id=nic.new_port_id or new_uuid(),
        project_id=draft.project_id,
        network_id=nic.network_id or "",
        fixed_ips=(WantedIp(ip_address=nic.fixed_ip),) if nic.fixed_ip else None,
    )
