"""The service over loopback: networks are listeners on ports of their own, sources are addresses of 127.0.0.0/8."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from muster.base.errors import Conflict, Transient
from muster.domain.specs import FixedIp, KeySpec, PortSpec, Power, ServerSpec
from muster.host.metadata import budget, http
from muster.host.metadata.openstack import Description
from muster.host.metadata.service import MetadataService, MetadataSettings

GET = b"GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n\r\n"


def server(name: str, network: str, address: str, **more: object) -> Description:
    port = PortSpec(id=name, network_id=network, mac_address="", fixed_ips=(FixedIp("s", address),))
    spec = ServerSpec(
        id=name, generation=1, project_id="p", user_id="u", name=name, hostname=name, power=Power.RUNNING, ports=(port,)
    )
    return Description(server=msgspec.structs.replace(spec, **more))


@pytest.fixture
async def service() -> AsyncIterator[MetadataService]:
    made = MetadataService(MetadataSettings(address="127.0.0.1", port=0, bridge_of=lambda network_id: None))
    await made.set_networks(["red", "blue"])
    yield made
    await made.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 300)).decode()
        length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 300) == b""
        except ConnectionError:
            return True


async def connect(service: MetadataService, network: str, source: str) -> Client:
    address = ("127.0.0.1", service.port_of(network))
    return Client(*await asyncio.open_connection(*address, local_addr=(source, 0)))


async def ask(service: MetadataService, network: str, source: str, request: bytes = GET) -> tuple[int, bytes]:
    client = await connect(service, network, source)
    try:
        client.writer.write(request)
        return await client.answer()
    finally:
        client.writer.close()
        await client.writer.wait_closed()


async def test_equal_addresses_on_two_networks_stay_apart(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7"), server("b", "blue", "127.0.0.7")])
    assert await ask(service, "red", "127.0.0.7") == (200, b"r")
    assert await ask(service, "blue", "127.0.0.7") == (200, b"b")


async def test_unknown_sources_learn_nothing(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7")])
    for network, source in (("red", "127.0.0.8"), ("blue", "127.0.0.7")):
        for path in (b"/", b"/latest/meta-data/hostname", b"/openstack"):
            assert await ask(service, network, source, b"GET %s HTTP/1.1\r\n\r\n" % path) == (404, b"not found\n")


async def test_no_header_changes_who_asks(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7"), server("s", "red", "127.0.0.8")])
    forged = b"GET /latest/meta-data/hostname HTTP/1.1\r\nX-Forwarded-For: 127.0.0.8\r\nX-Instance-ID: s\r\n\r\n"
    assert await ask(service, "red", "127.0.0.7", forged) == (200, b"r")


async def test_an_address_that_changes_hands(service: MetadataService) -> None:
    service.put_servers([server("old", "red", "127.0.0.7")])
    service.put_servers([server("new", "red", "127.0.0.7")])
    assert await ask(service, "red", "127.0.0.7") == (200, b"new")
    service.remove_servers(["old", "never"])
    assert await ask(service, "red", "127.0.0.7") == (200, b"new")
    service.put_servers([server("new", "red", "127.0.0.9")])
    assert (await ask(service, "red", "127.0.0.7"))[0] == 404
    assert await ask(service, "red", "127.0.0.9") == (200, b"new")
    service.set_servers([])
    assert (await ask(service, "red", "127.0.0.9"))[0] == 404


async def test_one_connection_takes_many_requests(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7", key=KeySpec("k", "ssh-rsa A"))])
    client = await connect(service, "red", "127.0.0.7")
    client.writer.write(
        GET * 3 + b"GET /latest/meta-data/public-keys/0/openssh-key HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    assert [await client.answer() for _ in range(3)] == [(200, b"r")] * 3
    assert await client.answer() == (200, b"ssh-rsa A")
    assert await client.ended()
    client.writer.close()


async def test_a_guest_that_asks_without_reading_fills_no_memory(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few such guests could once take the memory of the whole host."""
    answered = 0

    def respond(network: str, source: str, path: str) -> bytes:
        nonlocal answered
        answered += 1
        return bytes(65_536)

    monkeypatch.setattr(service, "_answer", respond)
    client = await connect(service, "red", "127.0.0.7")
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n" * 800)
    received = 0
    while chunk := await asyncio.wait_for(_some(client.reader), 300):
        received += len(chunk)
    client.writer.close()
    # What the kernel takes at once is not the service's: some MiB on loopback, of 51.
    assert answered < 400
    assert received <= answered * 66_000


async def test_a_guest_that_asks_without_end_is_told_to_wait(
    service: MetadataService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "BURST", 3)
    monkeypatch.setattr(budget, "PER_S", 0.0)
    service.set_servers([server("r", "red", "127.0.0.7"), server("s", "red", "127.0.0.8")])
    client = await connect(service, "red", "127.0.0.7")
    client.writer.write(GET * 4)
    assert [(await client.answer())[0] for _ in range(4)] == [200, 200, 200, 429]
    assert await client.ended()
    client.writer.close()
    assert await ask(service, "red", "127.0.0.8") == (200, b"s")


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65_536)
    except ConnectionError:
        return b""


async def test_http_1_0_and_head(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7")])
    client = await connect(service, "red", "127.0.0.7")
    client.writer.write(b"HEAD /latest/meta-data/hostname?x=1 HTTP/1.0\r\n\r\n")
    head = (await client.reader.read()).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 1\r\n" in head
    assert head.endswith("\r\n\r\n")
    client.writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /latest HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", 405),
        (b"\x16\x03\x01nonsense\r\n\r\n", 400),
        (b"GET http://169.254.169.254/latest/meta-data/hostname HTTP/1.1\r\n\r\n", 200),
        (b"GET /latest/meta%2ddata/hostname HTTP/1.1\r\n\r\n", 200),
        (b"GET /%ff%00 HTTP/1.1\r\n\r\n", 404),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
    ],
)
async def test_odd_requests(service: MetadataService, request_: bytes, status: int) -> None:
    service.set_servers([server("r", "red", "127.0.0.7")])
    assert (await ask(service, "red", "127.0.0.7", request_))[0] == status
    assert await ask(service, "red", "127.0.0.7") == (200, b"r")


async def test_bad_user_data_hides_nothing_else(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7", user_data="a"), server("s", "red", "127.0.0.8")])
    assert (await ask(service, "red", "127.0.0.7"))[0] == 404
    assert await ask(service, "red", "127.0.0.8") == (200, b"s")


async def test_one_guest_cannot_take_all_connections(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7"), server("s", "red", "127.0.0.8")])
    clients = [await connect(service, "red", "127.0.0.7") for _ in range(http.MAX_CONNECTIONS_PER_GUEST)]
    assert (await ask(service, "red", "127.0.0.7"))[0] == 503
    assert await ask(service, "red", "127.0.0.8") == (200, b"s")
    for client in clients:
        client.writer.close()
        await client.writer.wait_closed()
    async with asyncio.timeout(300):
        while (await ask(service, "red", "127.0.0.7"))[0] == 503:  # until it has seen them go
            pass
    assert await ask(service, "red", "127.0.0.7") == (200, b"r")


async def test_idle_connections_are_ended(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_TIMEOUT_S", 0.05)
    client = await connect(service, "red", "127.0.0.7")
    client.writer.write(b"GET / HT")
    assert await client.ended()
    client.writer.close()


async def test_a_removed_network_is_not_served_any_more(service: MetadataService) -> None:
    service.set_servers([server("r", "red", "127.0.0.7")])
    client = await connect(service, "red", "127.0.0.7")
    port = service.port_of("red")
    await service.set_networks(["blue"])
    assert await client.ended()
    client.writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    await service.remove_networks(["red", "never"])
    await service.add_networks(["blue", "red"])
    assert await ask(service, "red", "127.0.0.7") == (200, b"r")


async def test_an_occupied_address_and_a_missing_bridge(service: MetadataService) -> None:
    settings = MetadataSettings(address="127.0.0.1", port=service.port_of("red"), bridge_of=lambda network_id: None)
    second = MetadataService(settings)
    with pytest.raises(Conflict):
        await second.add_networks(["red"])
    missing = MetadataService(
        MetadataSettings(address="127.0.0.1", port=0, bridge_of=lambda name: None if name == "here" else "nobridge0")
    )
    with pytest.raises(Transient):
        await missing.add_networks(["gone", "here"])
    assert missing.port_of("here") > 0
    await missing.close()
