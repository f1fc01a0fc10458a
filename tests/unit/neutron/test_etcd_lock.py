"""etcd's locks over HTTP: members that cannot serve are passed over, and what is set wrongly is said."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from muster.base.errors import Invalid, Transient
from muster.locks.etcd_settings import from_url
from muster.neutron.etcd_lock import EtcdLocks
from muster.neutron.locks import open_locks

Answer = tuple[int, dict[str, object]] | None  # None: no answer, until who asks has gone

NO_LEADER: Answer = (503, {"error": "etcdserver: no leader", "code": 14, "message": "etcdserver: no leader"})


@contextmanager
def member(answer: Answer | dict[str, Answer], asked: list[str]) -> Iterator[str]:
    """A member that always gives this answer, or to each path its own; its endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            mine = answer.get(self.path, (200, {})) if isinstance(answer, dict) else answer
            if mine is None:
                self.connection.recv(1)
                return
            status, said = mine
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def members() -> Iterator[Callable[..., tuple[EtcdLocks, list[list[str]]]]]:
    """Locks at members that answer so, and what each was asked."""
    with ExitStack() as stack:

        def make(*answers: Answer) -> tuple[EtcdLocks, list[list[str]]]:
            asked: list[list[str]] = [[] for _ in answers]
            ends = [stack.enter_context(member(*one)) for one in zip(answers, asked, strict=True)]
            return EtcdLocks(from_url(f"etcd://{','.join(ends)}"), lease_s=10, wait_s=5.0), asked

        yield make


def test_a_member_without_a_leader_is_passed_over(members: Callable[..., tuple[EtcdLocks, list[list[str]]]]) -> None:
    """All locks of a worker failed for as long as the member that it began with was cut off from the others."""
    locks, asked = members(NO_LEADER, (200, {}))
    for _ in range(2):
        with locks.hold("subnet/1"):
            pass
    assert asked[0] == ["/v3/lease/grant"], "from then on the other one is asked first"
    assert asked[1] == ["/v3/lease/grant", "/v3/lock/lock", "/v3/lease/revoke"] * 2


def test_where_no_member_can_serve_it_is_said(members: Callable[..., tuple[EtcdLocks, list[list[str]]]]) -> None:
    locks, _ = members(NO_LEADER, NO_LEADER)
    with pytest.raises(Transient, match="no leader"), locks.hold("subnet/1"):
        pass


def test_a_refusal_is_no_matter_of_the_member(members: Callable[..., tuple[EtcdLocks, list[list[str]]]]) -> None:
    locks, asked = members((403, {"message": "etcdserver: permission denied", "code": 7}), (200, {}))
    with pytest.raises(Transient, match="permission denied"), locks.hold("subnet/1"):
        pass
    assert asked[1] == []


def test_a_lease_that_a_member_made_too_slowly_is_used() -> None:
    """The next member said that it was there already, and that was taken for a refusal."""
    asked: list[str] = []
    exists: Answer = (412, {"message": "etcdserver: lease already exists", "code": 9})
    with socket.create_server(("127.0.0.1", 0)) as slow, member({"/v3/lease/grant": exists}, asked) as fast:
        url = f"etcd://127.0.0.1:{slow.getsockname()[1]},{fast}?try_s=0.5"
        with EtcdLocks(from_url(url), lease_s=600, wait_s=600.0).hold("subnet/1"):
            pass
    assert asked == ["/v3/lease/grant", "/v3/lock/lock", "/v3/lease/revoke"]


def test_who_gives_up_waiting_leaves_no_lease() -> None:
    """If etcd had given the lock in that moment, the others waited for as long as the lease."""
    asked: list[str] = []
    with member({"/v3/lock/lock": None}, asked) as busy:
        locks = EtcdLocks(from_url(f"etcd://{busy}"), lease_s=1, wait_s=0.0)
        with pytest.raises(Transient, match="others hold it"), locks.hold("subnet/1"):
            pass
    assert asked == ["/v3/lease/grant", "/v3/lock/lock", "/v3/lease/revoke"]


def test_certificates_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="certificate files of lock_url"):
        open_locks(f"etcds://127.0.0.1:1?ca_file={tmp_path}/ca.pem", 10, 5.0)
