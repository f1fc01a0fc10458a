"""The bus that a URL names.

An adapter is imported when its URL is opened: a cloud on one machine does not carry the libraries of a cluster.
"""

from importlib import import_module
from random import Random
from typing import Any

from muster.base.errors import Invalid
from muster.bus.memory import MemoryBus
from muster.bus.protocol import Bus

MEMORY = "memory://"


def open_bus(url: str, name: str, rng: Random) -> Bus:
    """`memory://`, `amqp://...` or `amqps://...` (see `bus.rabbitmq_settings`); `name` says who we are to others.

    Connects in the background: a bus that is away is told by its methods. Raises Invalid for a URL that is not right.
    """
    if url == MEMORY:
        return MemoryBus()
    if not url.startswith(("amqp://", "amqps://")):
        raise Invalid("A bus is named by the URL memory://, amqp://... or amqps://...")
    settings = import_module("muster.bus.rabbitmq_settings").from_url(url)
    bus: Any = import_module("muster.bus.rabbitmq").RabbitBus(settings, name, rng)
    return bus  # type: ignore[no-any-return]
