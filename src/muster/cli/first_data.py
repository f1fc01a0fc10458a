"""What a new cloud begins with: administrator and roles, flavors, a network, an image.

Invariant: made by one process at a time in the whole cluster, and running it again changes nothing that is there but
the catalog's own entries. A start that died in the middle is made whole by the next.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from muster.api.compute.services import Services as ComputeServices
from muster.api.image.routes import Services as ImageServices
from muster.api.network.services import Services as NetworkServices
from muster.base.clock import system_clock
from muster.base.ids import new_uuid
from muster.cli.engines import Engines
from muster.cli.guest_image import ensure_guest
from muster.domain.catalog import CatalogEntry, own_entries
from muster.domain.context import Context
from muster.domain.flavors import DEFAULT_FLAVORS
from muster.domain.network_listing import ListQuery
from muster.domain.networks import NewNetwork
from muster.domain.quotas import OF_ONE_REQUEST, UNLIMITED
from muster.domain.subnets import NewSubnet
from muster.services.identity_bootstrap import BootstrapIds, bootstrap
from muster.services.passwords import Passwords
from muster.services.quotas import Quotas

DEFAULT_CIDR = "10.77.0.0/16"
_LOCK = "first-data"


class Makers(Struct, frozen=True, kw_only=True):
    """The services that first data is made with."""

    passwords: Passwords
    quotas: Quotas
    image: ImageServices
    network: NetworkServices
    compute: ComputeServices


class FirstData(Struct, frozen=True, kw_only=True):
    """What depends on the cloud: see `CloudSettings`. `scratch` is this process's own folder."""

    admin_password: str
    scratch: Path
    guest_image: Path | None = None
    catalog: Sequence[CatalogEntry] = own_entries()

    def __repr__(self) -> str:
        return "FirstData(...)"


async def ensure_first_data(engines: Engines, makers: Makers, data: FirstData) -> BootstrapIds:
    """Make what is missing, under a lock of the cluster. About 40 queries and one run of Argon2id when nothing is.

    Raises Transient when an engine is away, what `ensure_guest` raises.
    """
    async with engines.locks.hold(_LOCK):
        ids = await bootstrap(
            engines.database,
            admin_password=data.admin_password,
            passwords=makers.passwords,
            clock=system_clock,
            catalog=data.catalog,
        )
        async with engines.database.write() as connection:
            unlimited = {name: UNLIMITED for name in makers.quotas.defaults if name not in OF_ONE_REQUEST}
            await makers.quotas.ensure_limits(connection, ids.admin_project_id, unlimited)
        await makers.image.uploads.sweep()
        await ensure_guest(makers.image, data.guest_image, data.scratch)
        await makers.compute.flavors.ensure(DEFAULT_FLAVORS)
        admin = Context(user_id=ids.admin_user_id, project_id=ids.admin_project_id, roles=frozenset({"admin"}))
        await _ensure_default_network(makers.network, admin)
    return ids


async def _ensure_default_network(network: NetworkServices, admin: Context) -> None:
    """A shared network `default` with a /16, in a cloud that has no network yet.

    A start that died between network and subnet left a network that nobody has touched since: it gets its subnet now.
    """
    project_id = admin.project_id or ""
    found = await network.networks.page(admin, ListQuery(limit=2))
    if not found:
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name="default", shared=True)
        found = await network.networks.create(admin, [draft])
    [made, *others] = found
    if others or (made.name, made.project_id, made.shared, made.revision) != ("default", project_id, True, 1):
        return
    subnet = NewSubnet(
        id=new_uuid(),
        project_id=project_id,
        network_id=made.id,
        name="default",
        ip_version=4,
        cidr=DEFAULT_CIDR,
    )
    await network.subnets.create(admin, [subnet])
