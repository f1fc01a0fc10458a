"""Fixtures of the tests of servers: one cloud per module, and short sentences about its servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort
from muster.domain.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS, UNLIMITED
from muster.domain.subnets import NewSubnet
from muster.store import quotas as quota_store
from muster.store.ports import ports

from ..administration.conftest import DEADLINE_S, P1, P2, Bed, a_bed


class Scene:
    """A cloud with its callers: a member of one project, another of another, a reader, an admin."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.cloud = bed.cloud
        self.member = bed.client(f"member@{P1}/alice")
        self.other = bed.client(f"member@{P2}/bob")
        self.reader = bed.client(f"reader@{P1}/carol")
        self.admin = bed.client("admin@" + "c" * 32 + "/root")
        self.nobody = bed.client("")
        self.root = Context(user_id="root", project_id="c" * 32, roles=frozenset({"admin"}))

    async def create(self, v: str | None = None, **fields: Any) -> dict[str, Any]:
        """What is answered to a request for a server."""
        return (await self.member.post("/servers", await self.bed.server_body(**fields), v=v, status=202))["server"]

    async def server(self, v: str | None = None, **fields: Any) -> str:
        """The id of a server that is ACTIVE."""
        made = await self.create(v, **fields)
        return await self.active(made["id"])

    async def active(self, server_id: str) -> str:
        return (await self.until(server_id, "ACTIVE"))["id"]

    async def until(self, server_id: str, status: str) -> dict[str, Any]:
        """The server, once it has this status and no task is under way."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            server = (await self.admin.get(f"/servers/{server_id}", v="2.90"))["server"]
            if server["status"] == status and server["OS-EXT-STS:task_state"] is None:
                return server
            await asyncio.sleep(0.01)
        raise AssertionError(f"not {status}: {server}")

    async def show(self, server_id: str, v: str = "2.90") -> dict[str, Any]:
        return (await self.member.get(f"/servers/{server_id}", v=v))["server"]

    async def refused(self, status: int, words: str, v: str | None = None, **fields: Any) -> None:
        """A request for a server is refused with this status and words, and nothing is made."""
        before = await self.count()
        got, _, message = await self.member.refusal("POST", "/servers", await self.bed.server_body(**fields), v=v)
        assert got == status, message
        assert words in message
        assert await self.count() == before

    async def count(self) -> tuple[int, int]:
        """(servers, ports) there are."""
        servers = await self.admin.get("/servers?all_tenants=1")
        async with self.bed.database.read() as connection:
            return len(servers["servers"]), len((await connection.execute(select(ports.c.id))).all())

    async def network(self, project_id: str = P1, cidr: str | None = "10.9.0.0/24", **fields: Any) -> str:
        """The id of a new network with a subnet."""
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name=fields.pop("name", "net"), **fields)
        [network] = await self.cloud.network.networks.create(self.root, [draft])
        if cidr is not None:
            subnet = NewSubnet(
                id=new_uuid(), project_id=project_id, network_id=network.id, ip_version=4, cidr=cidr, enable_dhcp=False
            )
            await self.cloud.network.subnets.create(self.root, [subnet])
        return network.id

    async def port(self, network_id: str, project_id: str = P1, **fields: Any) -> str:
        """The id of a new port."""
        draft = NewPort(id=new_uuid(), project_id=project_id, network_id=network_id, **fields)
        return (await self.cloud.network.ports.create(self.root, draft)).id

    async def port_row(self, port_id: str) -> Any:
        """A port as the database has it; None if there is none."""
        async with self.bed.database.read() as connection:
            return (await connection.execute(select(ports).where(ports.c.id == port_id))).one_or_none()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with a_bed(tmp_path_factory.mktemp("cloud")) as bed:
        scene = Scene(bed)
        async with bed.database.write() as connection:
            for project_id in (P1, P2, "c" * 32):
                limits = dict.fromkeys({**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS}, UNLIMITED)
                await quota_store.set_limits(connection, project_id, limits | {"metadata_items": 128})
        yield scene
