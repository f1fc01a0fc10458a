"""The URLs of buses."""

from random import Random

import pytest

from muster.base.errors import Invalid
from muster.bus.memory import MemoryBus
from muster.bus.open import open_bus
from muster.bus.rabbitmq_settings import from_url
from muster.domain.messages import CONTROL_TOPIC


def test_all_that_a_url_says() -> None:
    settings = from_url("amqps://me:a%40b%3Ac@one,two:99/my%2Fhost?heartbeat_s=5&silence_s=7&ca_file=/ca&prefix=x.")
    assert settings.endpoints == ("one:5671", "two:99")
    assert (settings.user, settings.password, settings.vhost) == ("me", "a@b:c", "my/host")
    assert settings.tls
    assert (settings.heartbeat_s, settings.silence_s, settings.ca_file, settings.prefix) == (5, 7, "/ca", "x.")
    broker = settings.broker_url("two:99")
    assert (broker.user, broker.password, broker.host, broker.port) == ("me", "a@b:c", "two", 99)
    assert broker.query["heartbeat"] == "5"


@pytest.mark.parametrize("path", ["", "/", "/%2F"])
def test_the_least_that_a_url_says(path: str) -> None:
    settings = from_url(f"amqp://host{path}")
    assert settings.endpoints == ("host:5672",)
    assert settings.vhost == "/"
    assert settings.broker_url("host:5672").path == "/"


def test_a_password_is_not_shown() -> None:
    settings = from_url("amqp://me:hidden@host")
    assert "hidden" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    "url",
    [
        "amqp://",
        "amqp://host:x",
        "amqp://host?heartbeat=5",
        "amqp://host?user=me",
        "amqp://host?heartbeat_s=0",
        "amqp://host?silence_s=1",
        "amqp://host?prefetch=100000",
        "amqp://host?publish_s=-1",
    ],
)
def test_what_is_not_right_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        from_url(url)


def test_only_the_control_topic_refuses_when_it_is_full() -> None:
    settings = from_url("amqp://host")
    assert settings.queue_arguments(CONTROL_TOPIC)["x-overflow"] == "reject-publish"
    assert settings.queue_arguments("host.a")["x-overflow"] == "drop-head"


async def test_a_url_chooses_the_bus() -> None:
    assert isinstance(open_bus("memory://", "test", Random(1)), MemoryBus)
    for wrong in ("kafka://host", "memory", "", "amqp:host"):
        with pytest.raises(Invalid):
            open_bus(wrong, "test", Random(1))
