"""What users do with a server, each operation from the request until the cloud shows that it is done.

Every method raises MusterError when the operation fails. Nothing is sent twice: what fails is a failure.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec

from muster.base.errors import Invalid
from muster.client.api import Api, Call
from muster.client.bodies import (
    Attachment,
    AttachmentList,
    CreatedAttachment,
    CreatedServer,
    FlavorList,
    ImageList,
    PortList,
    SecurityGroupList,
    Server,
    best_address,
)
from muster.client.cloud import Service
from muster.client.ping import Pinger
from muster.client.resolve import Ingredients
from muster.client.ssh import SshProbe
from muster.soak.resources import Resources
from muster.soak.watch import Watcher

ACTIVE, SHUTOFF = "ACTIVE", "SHUTOFF"
_LOOK_AGAIN_S = 0.5


class Kit(msgspec.Struct, frozen=True):
    """What operations work with. The probes are None where nobody pings or logs in."""

    api: Api
    watcher: Watcher
    ingredients: Ingredients
    resources: Resources
    availability_zone: str | None
    pinger: Pinger | None
    ssh: SshProbe | None


class Operations:
    """All of them. `probes` are those by which a user sees that the guest is there."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._api = kit.api
        self._watcher = kit.watcher
        self.probes: dict[str, Callable[[Server], Awaitable[None]]] = {}
        if kit.pinger is not None:
            self.probes["ping"] = self.ping
        if kit.ssh is not None:
            self.probes["ssh"] = self.ssh

    # --- a server comes and goes

    async def ask_for(self, name: str) -> str:
        """Ask for a server; its id. The server is the caller's to look after."""
        kit = self._kit
        body: dict[str, object] = {
            "name": name,
            "imageRef": kit.ingredients.image_id,
            "flavorRef": kit.ingredients.flavor_id,
            "networks": [{"uuid": kit.ingredients.network_id}],
            "security_groups": [{"name": kit.resources.group}],
        }
        if kit.availability_zone is not None:
            body["availability_zone"] = kit.availability_zone
        if kit.resources.key_name is not None:
            body["key_name"] = kit.resources.key_name
        call = Call("POST servers", "POST", Service.COMPUTE, "/servers", {"server": body}, ok=(202,))
        self._watcher.expect(name)
        server_id: str | None = None
        try:
            server_id = (await self._api.get(call, CreatedServer)).server.id
        finally:
            self._watcher.own(name, server_id)
        return server_id

    async def delete(self, server_id: str) -> None:
        """Delete the server, wait until it is gone, and see that none of its ports is left."""
        await self._send("DELETE servers", "DELETE", _path(server_id), ok=(202, 204))
        await self._watcher.gone(server_id)
        if ports := await self._ports(server_id):
            raise Invalid(f"{len(ports)} ports of the deleted server are left")

    # --- it is used

    async def ping(self, server: Server) -> None:
        """Wait for an echo reply."""
        assert self._kit.pinger is not None  # noqa: S101 - it is among the probes then
        await self._kit.pinger.first_reply(_address(server))

    async def ssh(self, server: Server) -> None:
        """Log in and run a command. Only who listens is logged into: others would hold the few logins at a time up."""
        assert self._kit.ssh is not None  # noqa: S101 - it is among the probes then
        address = _address(server)
        await self._kit.ssh.banner(address)
        await self._kit.ssh.login(address)

    async def read(self, server: Server) -> None:
        """Look at the server, its interfaces and ports, flavors and images; what is told must fit together."""
        found = await self._api.get(Call("GET server", "GET", Service.COMPUTE, _path(server.id)), CreatedServer)
        if found.server.status != ACTIVE:
            raise Invalid(f"{found.server.status} instead of {ACTIVE}, and nobody asked for that")
        interfaces = {one.port_id for one in await self._interfaces(server.id)}
        ports = set(await self._ports(server.id))
        if interfaces != ports:
            raise Invalid(f"the server has {len(interfaces)} interfaces and {len(ports)} ports, not the same")
        await self._api.get(Call("GET flavors", "GET", Service.COMPUTE, "/flavors/detail"), FlavorList)
        await self._api.get(Call("GET images", "GET", Service.IMAGE, "/images?limit=100"), ImageList)

    async def metadata(self, server: Server) -> None:
        """Add an item of metadata, read it, take it away."""
        path = _path(server.id) + "/metadata"
        await self._send("POST metadata", "POST", path, {"metadata": {"soak": server.id}})
        found = await self._api.get(Call("GET metadata", "GET", Service.COMPUTE, path), dict[str, dict[str, str]])
        if found.get("metadata", {}).get("soak") != server.id:
            raise Invalid("metadata that was added is not there")
        await self._send("DELETE metadata", "DELETE", path + "/soak", ok=(204,))

    async def security_group(self, server: Server) -> None:
        """Add a security group, see it, take it away."""
        name = self._kit.resources.extra_group
        await self._act(server.id, "addSecurityGroup", {"name": name})
        call = Call("GET os-security-groups", "GET", Service.COMPUTE, _path(server.id) + "/os-security-groups")
        found = await self._api.get(call, SecurityGroupList)
        if name not in [group.name for group in found.security_groups]:
            raise Invalid("a security group that was added is not there")
        await self._act(server.id, "removeSecurityGroup", {"name": name})

    async def attach(self, server: Server) -> str:
        """Attach an interface on the network; its port."""
        body = {"interfaceAttachment": {"net_id": self._kit.ingredients.network_id}}
        path = _path(server.id) + "/os-interface"
        call = Call("POST os-interface", "POST", Service.COMPUTE, path, body)
        port_id = (await self._api.get(call, CreatedAttachment)).attachment.port_id
        await self._listed(server.id, port_id, is_there=True)
        return port_id

    async def detach(self, server: Server, port_id: str) -> None:
        """Detach the interface, and wait until it is not there any more."""
        path = f"{_path(server.id)}/os-interface/{quote(port_id, safe='')}"
        await self._send("DELETE os-interface", "DELETE", path, ok=(202,))
        await self._listed(server.id, port_id, is_there=False)

    # --- it is restarted

    async def reboot(self, server: Server, kind: str) -> None:
        """Reboot it, SOFT or HARD."""
        await self._act(server.id, "reboot", {"type": kind})
        await self._watcher.until(server.id, ACTIVE)

    async def stop(self, server: Server) -> None:
        """Stop it."""
        await self._act(server.id, "os-stop", None)
        await self._watcher.until(server.id, SHUTOFF)

    async def start(self, server: Server) -> None:
        """Start it."""
        await self._act(server.id, "os-start", None)
        await self._watcher.until(server.id, ACTIVE)

    async def rebuild(self, server: Server) -> None:
        """Give it a new disk of the same image."""
        await self._act(server.id, "rebuild", {"imageRef": self._kit.ingredients.image_id})
        await self._watcher.until(server.id, ACTIVE)

    # --- requests

    async def _act(self, server_id: str, action: str, details: object) -> None:
        await self._send(f"POST action {action}", "POST", _path(server_id) + "/action", {action: details}, ok=(202,))

    async def _send(
        self, what: str, method: str, path: str, body: object = None, *, ok: tuple[int, ...] = (200,)
    ) -> None:
        await self._api.send(Call(what, method, Service.COMPUTE, path, body, ok=ok))

    async def _interfaces(self, server_id: str) -> list[Attachment]:
        call = Call("GET os-interface", "GET", Service.COMPUTE, _path(server_id) + "/os-interface")
        return (await self._api.get(call, AttachmentList)).attachments

    async def _listed(self, server_id: str, port_id: str, *, is_there: bool) -> None:
        while is_there is not (port_id in [one.port_id for one in await self._interfaces(server_id)]):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _ports(self, server_id: str) -> list[str]:
        path = f"/ports?device_id={quote(server_id, safe='')}&fields=id"
        return [
            port.id for port in (await self._api.get(Call("GET ports", "GET", Service.NETWORK, path), PortList)).ports
        ]


def _path(server_id: str) -> str:
    return f"/servers/{quote(server_id, safe='')}"


def _address(server: Server) -> str:
    address = best_address(server)
    if address is None:
        raise Invalid("the cloud gave the server no address")
    return address
