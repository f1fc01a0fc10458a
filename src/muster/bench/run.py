"""One run of `muster bench servers`: look up, prepare, measure, clean up, tell.

Invariant: what a run made it removes, also when it fails or is cancelled, and it says what it could not remove.
"""

import os
import secrets
import time

import msgspec

from muster.base.clock import system_clock
from muster.base.errors import MusterError
from muster.base.tasks import to_its_end
from muster.base.units import iso
from muster.bench.figures import faults, figures, shared_addresses
from muster.bench.measure import Inspect, Measured, Plan, measure
from muster.bench.observer import Observer, SilentObserver
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Environment, ServersResult
from muster.bench.resources import make_key_pair, make_security_group
from muster.bench.undo import Undo
from muster.client.api import Api, Tally
from muster.client.cloud import Cloud, Service, connect
from muster.client.http import HttpClient
from muster.client.listing import Listing
from muster.client.open_files import ensure_open_files
from muster.client.ping import ensure_ping
from muster.client.resolve import Ingredients, Wanted, resolve
from muster.client.ssh import ensure_ssh
from muster.client.sweep import Sweep

# Open files besides one connection per request in flight: ssh probes, processes, the program itself.
SPARE_FILES = 640
# How long to look for servers whose POST was cut off or never answered.
QUIET_S = 3.0


async def run_servers(
    options: ServersOptions, observer: Observer | None = None, inspect: Inspect | None = None
) -> ServersResult:
    """Measure `options.count` servers at once on the cloud that `options` names.

    `inspect` is called once, when all servers are up or have failed, and before any is deleted.

    Failures of servers are in the result. Raises Invalid, NotFound, Unauthenticated, Forbidden, Conflict or Transient
    when the run cannot begin. When cancelled, also during the clean-up, removes what was made, tells the observer what
    is left, and goes on as a cancellation; a second cancellation ends at once.
    """
    _ensure_means(options)
    cloud = await connect(options.cloud, options.config_files, time.monotonic)
    try:
        async with HttpClient(cloud.tls) as http:
            run = _Run(options, observer or SilentObserver(), cloud, http)
            return await run.whole(inspect)
    finally:
        cloud.tokens.close()


def _ensure_means(options: ServersOptions) -> None:
    """What this machine lacks for the run is said before anything is made."""
    ensure_open_files((options.concurrency or options.count) + SPARE_FILES)
    if options.wants(Phase.PING):
        ensure_ping()
    if options.login:
        ensure_ssh()


class _Run:
    """One run: what it talks to, and what it has made."""

    def __init__(self, options: ServersOptions, observer: Observer, cloud: Cloud, http: HttpClient) -> None:
        self._options = options
        self._observer = observer
        self._cloud = cloud
        self._http = http
        self._api = Api(http, cloud, Tally())
        self._prefix = f"bench-{secrets.token_hex(4)}-"
        self._undo = Undo(observer)

    async def whole(self, inspect: Inspect | None) -> ServersResult:
        """The run from the look-ups to the result."""
        started_at = iso(system_clock())
        self._observer.says("looking up image, flavor and network")
        ingredients = await resolve(self._api, _wanted(self._options))
        whole = True
        try:
            self._observer.says("preparing")
            plan = msgspec.structs.replace(await self._prepare(ingredients), inspect=inspect)
            whole = False
            measured = await measure(self._api, plan, self._observer)
            whole = all(record.id is not None for record in measured.records)
        finally:
            await to_its_end(self._clean_up(0.0 if whole else QUIET_S))
        return self._result(self._environment(ingredients, started_at), measured)

    async def _prepare(self, ingredients: Ingredients) -> Plan:
        options, key_file = self._options, None
        template: dict[str, object] = {
            "imageRef": ingredients.image_id,
            "flavorRef": ingredients.flavor_id,
            "networks": [{"uuid": ingredients.network_id}],
        }
        if options.availability_zone is not None:
            template["availability_zone"] = options.availability_zone
        name = self._prefix.rstrip("-")
        if options.wants_key:
            key_file = await make_key_pair(self._api, name, self._undo)
            template["key_name"] = name
        group = ingredients.security_group_id
        if options.wants_security_group:
            group = await make_security_group(self._api, name, options.ssh_port, self._undo)
        if group is not None:
            template["security_groups"] = [{"name": group}]
        return Plan(options, template, self._prefix, key_file)

    async def _clean_up(self, quiet_s: float) -> None:
        if self._options.keep:
            return
        self._observer.says("cleaning up")
        sweep = Sweep(self._api, Listing(self._api, self._prefix), time.monotonic)
        try:
            left = await sweep.run(quiet_s=quiet_s, timeout_s=self._options.timeout_s)
        except MusterError as error:
            left = {f"{self._prefix}*": error.message}
        for server_id, reason in left.items():
            self._undo.left("server", server_id, reason)
        await self._undo.run()
        self._observer.says("removed what could be" if self._undo.leftovers else "removed everything")

    def _environment(self, ingredients: Ingredients, started_at: str) -> Environment:
        return Environment(
            cloud=self._cloud.name,
            region=self._cloud.region,
            compute_url=self._cloud.endpoints[Service.COMPUTE],
            image_id=ingredients.image_id,
            flavor_id=ingredients.flavor_id,
            network_id=ingredients.network_id,
            started_at=started_at,
            client_cpus=os.cpu_count() or 1,
        )

    def _result(self, environment: Environment, measured: Measured) -> ServersResult:
        servers = [f"server {record.id}" for record in measured.records if record.id is not None]
        return ServersResult(
            options=self._options,
            environment=environment,
            figures=figures(measured.records, self._options),
            faults=faults(measured.records),
            traffic=self._api.tally.traffic(self._http.connections_opened),
            polling=measured.polling,
            shared_addresses=shared_addresses(measured.records),
            leftovers=self._undo.leftovers,
            kept=[*self._undo.names(), *servers] if self._options.keep else [],
            duration_s=measured.duration_s,
            client_cpu_s=measured.client_cpu_s,
            samples=measured.samples,
            servers=measured.records,
        )


def _wanted(options: ServersOptions) -> Wanted:
    return Wanted(options.image, options.flavor, options.network, options.security_group)
