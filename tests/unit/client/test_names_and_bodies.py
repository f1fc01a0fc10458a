"""From names to ids, and what is read from answers."""

import pytest

from muster.base.errors import Conflict, Forbidden, Invalid, NotFound, Transient, Unauthenticated
from muster.client.bodies import Flavor, Server, ServerAddress, ServerList, best_address, decode
from muster.client.cloud import Service, versioned
from muster.client.faults import message_of, refusal
from muster.client.http_connection import Response
from muster.client.resolve import pick

SMALL, BIG, TWIN = Flavor("1", "small"), Flavor("2", "big"), Flavor("3", "big")


def test_an_id_comes_before_a_name() -> None:
    odd = Flavor("4", "1")
    assert pick("flavor", "1", [odd, SMALL]) is SMALL
    assert pick("flavor", "small", [odd, SMALL]) is SMALL


def test_a_name_of_several_is_not_guessed() -> None:
    with pytest.raises(Invalid, match=r"big \(2\), big \(3\)"):
        pick("flavor", "big", [SMALL, BIG, TWIN])


def test_the_only_one_need_not_be_named() -> None:
    assert pick("image", None, [SMALL]) is SMALL
    with pytest.raises(Invalid):
        pick("image", None, [SMALL, BIG])
    with pytest.raises(NotFound):
        pick("image", None, [])


def test_what_is_missing_is_told_with_what_there_is() -> None:
    with pytest.raises(NotFound, match=r"no flavor huge; there are: small \(1\)"):
        pick("flavor", "huge", [SMALL])


@pytest.mark.parametrize(
    ("url", "service", "full"),
    [
        ("http://c/compute/v2.1/", Service.COMPUTE, "http://c/compute/v2.1"),
        ("http://c:8774/v2.1/0123abcd", Service.COMPUTE, "http://c:8774/v2.1/0123abcd"),
        ("http://c:9696", Service.NETWORK, "http://c:9696/v2.0"),
        ("http://c/image/", Service.IMAGE, "http://c/image/v2"),
        ("http://v2cloud/compute", Service.COMPUTE, "http://v2cloud/compute/v2.1"),
    ],
)
def test_endpoints_get_their_version(url: str, service: Service, full: str) -> None:
    assert versioned(url, service) == full


def test_floating_comes_before_fixed_and_ipv4_before_ipv6() -> None:
    v6, fixed = ServerAddress("fd00::1", 6), ServerAddress("10.0.0.1")
    floating = ServerAddress("192.0.2.1", 4, "floating")
    assert best_address(Server("1", addresses={"net": [v6, fixed], "other": [floating]})) == "192.0.2.1"
    assert best_address(Server("1", addresses={"net": [v6, fixed]})) == "10.0.0.1"
    assert best_address(Server("1", addresses={"net": [v6]})) == "fd00::1"
    assert best_address(Server("1")) is None


def test_a_server_with_everything_that_is_not_read() -> None:
    addresses = b'{"n": [{"addr": "a", "version": 4, "OS-EXT-IPS:type": "fixed"}]}'
    data = (
        b"""{"servers": [{"id": "1", "status": "ERROR", "flavor": {"id": "x"}, "OS-SRV-USG:launched_at": null,
        "fault": {"message": "m", "code": 500}, "addresses": %b}]}"""
        % addresses
    )
    (server,) = decode(data, ServerList).servers
    assert server.fault is not None
    assert (server.status, server.fault.message, server.launched_at) == ("ERROR", "m", None)


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"servers": 5}'])
def test_an_unexpected_body_is_an_error(data: bytes) -> None:
    with pytest.raises(Transient):
        decode(data, ServerList)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"badRequest": {"code": 400, "message": "no"}}', "no"),
        (b'{"NeutronError": {"type": "T", "message": "no", "detail": ""}}', "no"),
        (b'{"message": "no"}', "no"),
        (b"<html>no</html>", "<html>no</html>"),
        (b"[1]", "[1]"),
        (b"{}", "{}"),
        (b"\xff", "\ufffd"),
    ],
)
def test_what_errors_say(body: bytes, message: str) -> None:
    assert message_of(body) == message


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Invalid), (401, Unauthenticated), (403, Forbidden), (404, NotFound), (409, Conflict), (429, Transient),
     (500, Transient), (302, Transient)],
)  # fmt: skip
def test_statuses_are_errors_of_the_project(status: int, kind: type[Exception]) -> None:
    assert type(refusal("GET x", Response(status, {}, b"why"))) is kind
