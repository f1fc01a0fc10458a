"""The HTTP client against servers that misbehave, on loopback."""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from muster.base.errors import Invalid, Transient
from muster.client.http import HttpClient, Origin, Request, encode, tls_context
from tests.serving import ended


@contextlib.asynccontextmanager
async def answering(
    *answers: bytes, hang_up: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one per request, over however many connections; its URL and what it heard."""
    left, heard = list(answers), []
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.startswith(b"Content-L")), 0)
                heard.append(head + await reader.readexactly(length))
                for piece in left.pop(0).split(b"|"):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if hang_up:
                    break
            if hang_up:
                writer.close()
            else:
                await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        await ended(server, open_writers)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def get(url: str, timeout_s: float = 300.0) -> tuple[int, bytes]:
    async with HttpClient() as client:
        response = await client.send(Request("GET", url), timeout_s=timeout_s)
        return response.status, response.body


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nContent-|Length: 2\r\n\r\n|o|k",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n|1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_bodies_in_every_framing(answer: bytes) -> None:
    async with answering(answer) as (url, _):
        assert await get(url + "/x?y=1") == (200, b"ok")


async def test_a_body_may_end_with_the_connection() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", hang_up=True) as (url, _):
        assert await get(url) == (200, b"ok")


async def test_no_content_has_no_body_and_keeps_the_connection() -> None:
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n", OK) as (url, _), HttpClient() as client:
        assert (await client.send(Request("DELETE", url + "/1"))).status == 204
        assert (await client.send(Request("GET", url + "/1"))).body == b"ok"
        assert client.connections_opened == 1


async def test_headers_are_found_in_lower_case() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-Request-ID: 7\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as (url, _), HttpClient() as client:
        assert (await client.send(Request("GET", url))).headers["x-request-id"] == "7"


async def test_a_connection_that_is_to_be_closed_is_not_used_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with answering(closing, OK) as (url, _), HttpClient() as client:
        await client.send(Request("GET", url))
        await client.send(Request("GET", url))
        assert client.connections_opened == 2


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\nContent-"]
)
async def test_half_an_answer_is_an_error_and_nothing_is_sent_again(answer: bytes) -> None:
    async with answering(answer, OK, hang_up=True) as (url, heard):
        with pytest.raises(Transient, match="broke"):
            await get(url)
        assert len(heard) == 1


async def test_what_is_not_http_is_an_error() -> None:
    async with answering(b"SSH-2.0-dropbear\r\n\r\n") as (url, _):
        with pytest.raises(Transient, match=r"not HTTP/1\.1"):
            await get(url)


async def test_no_answer_in_time_is_an_error_and_the_connection_is_not_used_again() -> None:
    async with answering(b"", OK) as (url, _), HttpClient() as client:
        with pytest.raises(Transient) as caught:
            await client.send(Request("GET", url), timeout_s=2.0)  # it is sent by then
        assert caught.value.code == "client.timeout"
        assert (await client.send(Request("GET", url))).body == b"ok"
        assert client.connections_opened == 2


async def test_nobody_there_is_an_error() -> None:
    with pytest.raises(Transient) as caught:
        await get("http://127.0.0.1:1")
    assert caught.value.code == "client.connect"


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async with answering(OK, OK, hang_up=True) as (url, _), HttpClient() as client:
        await client.send(Request("GET", url))
        [[(_, connection)]] = client._idle.values()
        async with asyncio.timeout(300):
            while connection.reusable:
                await asyncio.sleep(0.01)
        await client.send(Request("GET", url))
        assert client.connections_opened == 2


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with answering(b"") as (url, _), HttpClient() as client:
        task = asyncio.create_task(client.send(Request("GET", url)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(client._idle.values())


async def test_the_request_on_the_wire() -> None:
    async with answering(OK) as (url, heard), HttpClient() as client:
        await client.send(Request("POST", url + "/v2.1/servers", {"X-Auth-Token": "t"}, b"{}"))
    lines = heard[0].split(b"\r\n")
    assert lines[0] == b"POST /v2.1/servers HTTP/1.1"
    assert lines[2:] == [b"X-Auth-Token: t", b"Content-Length: 2", b"", b"{}"]


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/a\r\nX: 1", {}), ("/", {"X-Auth-Token": "a\r\nX: 1"}), ("/é", {})],
)
def test_what_would_break_the_framing_is_refused(target: str, headers: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        encode(Request("GET", "http://h" + target, headers), Origin("http", "h", 80), target)


def test_ipv6_hosts_are_bracketed() -> None:
    assert b"Host: [::1]:80\r\n" in encode(Request("GET", "http://[::1]/"), Origin("http", "::1", 80), "/")


@pytest.mark.parametrize("url", ["ftp://h/", "h/path", "http://", "http://h:99999/"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        await get(url)


def test_certificate_files_that_are_not_there_are_said() -> None:
    with pytest.raises(Invalid):
        tls_context(verify="/nowhere/ca.pem")
    with pytest.raises(Invalid):
        tls_context(client_cert=("/nowhere/cert.pem", "/nowhere/key.pem"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


@pytest.mark.parametrize("verify", ["the certificate", False])
async def test_tls_as_clouds_yaml_says(certificate: Path, verify: str | bool) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    context = tls_context(verify=str(certificate) if verify else False)
    async with answering(OK, OK, tls=serving) as (url, _), HttpClient(context) as client:
        for _ in range(2):
            assert (await client.send(Request("GET", url))).body == b"ok"
        assert client.connections_opened == 1


async def test_a_certificate_that_nobody_vouches_for_is_an_error(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    async with answering(OK, tls=serving) as (url, heard):
        with pytest.raises(Transient) as caught:
            await get(url)
    assert caught.value.code == "client.connect"
    assert heard == []
