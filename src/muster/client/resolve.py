"""From names to ids: which image, flavor, network and security group a run uses.

Invariant: a name that is missing or that fits several things is an error that says which there are; nothing is guessed.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from muster.base.errors import Invalid, NotFound
from muster.client.api import Api, Call
from muster.client.bodies import Flavor, FlavorList, Image, ImageList, NetworkList, SecurityGroupList
from muster.client.cloud import Service

AUTO = "auto"
_SHOWN = 10


class Named(Protocol):
    """What has an id and perhaps a name."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str | None: ...


N = TypeVar("N", bound=Named)


class Wanted(msgspec.Struct, frozen=True):
    """Names or ids. None: the only image there is, the smallest flavor, no security group; network `auto`: the only one
    that is not external.
    """

    image: str | None = None
    flavor: str | None = None
    network: str = AUTO
    security_group: str | None = None


class Ingredients(msgspec.Struct, frozen=True):
    """What a server is made of, as ids."""

    image_id: str
    flavor_id: str
    network_id: str
    security_group_id: str | None


async def resolve(api: Api, wanted: Wanted) -> Ingredients:
    """Look the ingredients up. Raises NotFound or Invalid, and what `Api.get` raises.

    Cost: one request each; an image that is named by its id takes two, one that is not there three.
    """
    return Ingredients(
        image_id=await _image(api, wanted.image),
        flavor_id=await _flavor(api, wanted.flavor),
        network_id=await _network(api, wanted.network),
        security_group_id=await _security_group(api, wanted.security_group),
    )


async def _image(api: Api, wanted: str | None) -> str:
    if wanted is None:
        return pick("active image", None, await _active_images(api)).id
    text = quote(wanted, safe="")
    # An id is no name; and where neither fits, it is told what there is.
    for filters in (f"&name={text}", f"&id=in:{text}", ""):
        if found := await _active_images(api, filters):
            break
    return pick("active image", wanted, found).id


async def _active_images(api: Api, filters: str = "") -> list[Image]:
    found = await api.get(Call("GET images", "GET", Service.IMAGE, f"/images?limit=1000{filters}"), ImageList)
    return [image for image in found.images if image.status == "active"]


async def _flavor(api: Api, wanted: str | None) -> str:
    found = await api.get(Call("GET flavors", "GET", Service.COMPUTE, "/flavors/detail"), FlavorList)
    if wanted is None and found.flavors:
        return min(found.flavors, key=_size).id
    return pick("flavor", wanted, found.flavors).id


def _size(flavor: Flavor) -> tuple[int, int, int]:
    return flavor.ram, flavor.vcpus, flavor.disk


async def _network(api: Api, wanted: str) -> str:
    found = await api.get(Call("GET networks", "GET", Service.NETWORK, "/networks"), NetworkList)
    if wanted == AUTO:
        usable = [network for network in found.networks if not network.external and network.subnets]
        return pick("network", None, usable).id
    return pick("network", wanted, found.networks).id


async def _security_group(api: Api, wanted: str | None) -> str | None:
    if wanted is None:
        return None
    call = Call("GET security-groups", "GET", Service.NETWORK, "/security-groups")
    return pick("security group", wanted, (await api.get(call, SecurityGroupList)).security_groups).id


def pick(kind: str, wanted: str | None, found: Sequence[N]) -> N:
    """The one with this id, else the one with this name; None: the only one.

    Raises NotFound, or Invalid when there are several.
    """
    fitting = [one for one in found if wanted is None or wanted == one.id] or [
        one for one in found if wanted == one.name
    ]
    if not fitting:
        raise NotFound(f"there is no {kind}{'' if wanted is None else ' ' + wanted}; there are: {_list(found)}")
    if len(fitting) > 1:
        raise Invalid(f"which {kind}? Say one of: {_list(fitting)}")
    return fitting[0]


def _list(found: Iterable[Named]) -> str:
    names = [f"{one.name} ({one.id})" for one in found]
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "none"
