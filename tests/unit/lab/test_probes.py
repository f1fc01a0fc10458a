"""What the lab's probes make of parts that are being killed while they answer."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.lab.api import HostList
from muster.lab.parts import runner
from muster.lab.parts.runner import gets


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers does so in time, on however slow a machine."""
    monkeypatch.setattr(runner, "_PROBE_S", 300.0)


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Answers each request with what is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(b"half an ans\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_proxy_for_the_world_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With http_proxy in the environment no part of a lab was ever ready."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert gets(f"http://127.0.0.1:{server.server_port}/health")
        thread.join()


def test_half_an_answer_is_none(broken_server: str, tmp_path: Path) -> None:
    """It once ended a wait that should have gone on, with an error that nobody expected."""
    assert not gets(broken_server)
    auth = {"auth_url": f"{broken_server}/identity/v3", "username": "u", "password": "p", "project_name": "p"}
    ids = {"user_domain_id": "default", "project_domain_id": "default"}
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(f"clouds: {{muster: {{auth: {auth | ids}}}}}")
    with pytest.raises(Transient, match="does not answer"):
        HostList(clouds).up()
