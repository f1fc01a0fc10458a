"""The URL of an etcd cluster."""

import pytest

from muster.base.errors import Invalid
from muster.locks.etcd_settings import from_url


def test_all_that_a_url_says() -> None:
    settings = from_url("etcds://me:a%40b%3Ac@one,two:99,[::1]:7,[::2]/my/locks/?lease_s=5&away_s=0.5&ca_file=/ca")
    assert settings.endpoints == ("one:2379", "two:99", "[::1]:7", "[::2]:2379")
    assert (settings.user, settings.password) == ("me", "a@b:c")
    assert settings.tls
    assert settings.ca_file == "/ca"
    assert settings.prefix == "/my/locks"
    assert (settings.lease_s, settings.try_s, settings.away_s) == (5, 2.0, 0.5)


def test_the_least_that_a_url_says() -> None:
    settings = from_url("etcd://host")
    assert settings.endpoints == ("host:2379",)
    assert not settings.tls
    assert settings.user is None
    assert settings.prefix == "/muster/locks"


def test_a_password_is_not_shown() -> None:
    settings = from_url("etcd://me:hidden@host")
    assert "hidden" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "etcd://",
        "etcd://:2379",
        "etcd://host:port",
        "etcd://host:0",
        "etcd://host:70000",
        "etcd://one,,two",
        "etcd://host?lease=5",
        "etcd://host?password=x",
        "etcd://host?lease_s=soon",
        "etcd://host?lease_s=0",
        "etcd://host?try_s=-1",
    ],
)
def test_what_is_not_right_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        from_url(url)
