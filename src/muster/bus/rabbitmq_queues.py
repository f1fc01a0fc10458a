"""The queues of RabbitMQ: one per topic, made by whoever comes first, reader or writer."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelLockedResource, ChannelPreconditionFailed

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.bus.rabbitmq_link import told
from muster.bus.rabbitmq_settings import SINGLE_READER, RabbitSettings
from muster.domain.messages import CONTROL_TOPIC

log = get_logger(__name__)

_REMOVE_S = 30.0  # RabbitMQ itself waits 5 s for a leader before it removes a queue that has none


async def declare(connection: AbstractConnection, settings: RabbitSettings, topics: Collection[str]) -> None:
    """Make the queues of these topics that do not exist. One round trip each. Raises Transient."""
    channel: AbstractChannel | None = None
    for topic in topics:
        if channel is None or channel.is_closed:
            channel = await told(connection.channel(publisher_confirms=False))
        try:
            arguments = settings.queue_arguments(topic)
            await told(channel.queue_declare(settings.prefix + topic, durable=True, arguments=arguments))
        except Transient as error:
            if not isinstance(error.__cause__, ChannelPreconditionFailed):
                raise
            if topic != CONTROL_TOPIC or not await _replaced(connection, settings):
                # It exists, with other limits: another version of Muster, or an operator, has made it.
                log.warning("a queue with other limits", action="bus.declare", topic=topic)
    if channel is not None and not channel.is_closed:
        await told(channel.close())


async def _replaced(connection: AbstractConnection, settings: RabbitSettings) -> bool:
    """Whether the control queue was one of a version that let its readers share it, and is made anew now.

    Only while nobody reads it: old workers would make it again as it was, and RabbitMQ may lose readers of a queue
    that is deleted under them. What it held is asked for again, by the numbers of messages. Raises Transient, also
    while another is at it.
    """
    async with _alone(connection, settings) as channel:
        name, arguments = settings.prefix + CONTROL_TOPIC, settings.queue_arguments(CONTROL_TOPIC)
        shared = {key: value for key, value in arguments.items() if key != SINGLE_READER}
        try:
            found = await told(channel.queue_declare(name, durable=True, arguments=shared))
        except Transient as error:
            if not isinstance(error.__cause__, ChannelPreconditionFailed):
                raise
            return await _is_right(connection, settings)
        if found.consumer_count:
            log.warning(
                "the control queue is of an earlier version, and its readers share it: once no worker of that version "
                "runs, stop all workers and start them again, or delete it",
                action="bus.shared",
                queue=name,
            )
            return True
        await told(channel.queue_delete(name))
        await told(channel.queue_declare(name, durable=True, arguments=arguments))
        log.warning("the control queue of an earlier version is made anew", action="bus.remade", queue=name)
    return True


@asynccontextmanager
async def _alone(connection: AbstractConnection, settings: RabbitSettings) -> AsyncIterator[AbstractChannel]:
    """A channel, while nobody else makes the control queue anew: of the whole broker. Raises Transient if one does.

    RabbitMQ 3.10 may be left with a queue that is neither there nor can be made when two delete and make it at the same
    time ("cluster_not_formed"). A queue that is one connection's alone is the lock: it goes with its connection, and
    before that also when whoever holds it is cancelled, since others of its process use the connection on.
    """
    lock = f"{settings.prefix}{CONTROL_TOPIC}.remaking"
    async with _channel(connection) as holding:
        try:
            try:
                await told(holding.queue_declare(lock, exclusive=True))
            except Transient as error:
                if isinstance(error.__cause__, ChannelLockedResource):
                    raise Transient("The control queue is being made anew", retry_after_s=0.5) from error
                raise
            async with _channel(connection) as channel:
                yield channel
        finally:
            if not holding.is_closed:
                await told(holding.queue_delete(lock))


async def _is_right(connection: AbstractConnection, settings: RabbitSettings) -> bool:
    """Whether the control queue is as it should be: another has just made it anew."""
    async with _channel(connection) as channel:
        try:
            arguments = settings.queue_arguments(CONTROL_TOPIC)
            await told(channel.queue_declare(settings.prefix + CONTROL_TOPIC, durable=True, arguments=arguments))
        except Transient as error:
            if not isinstance(error.__cause__, ChannelPreconditionFailed):
                raise
            return False
    return True


@asynccontextmanager
async def _channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """A channel for the block; RabbitMQ closes it where it refuses something."""
    channel = await told(connection.channel(publisher_confirms=False))
    try:
        yield channel
    finally:
        if not channel.is_closed:
            await told(channel.close())


async def remove(connection: AbstractConnection, settings: RabbitSettings, topic: str) -> None:
    """Remove a queue that RabbitMQ does not serve any more, so that it is made anew. Raises Transient.

    A broker that is killed right after it made a queue may come back with that queue, but without a leader for it, for
    ever. What the queue held is lost with it; by their numbers, hosts and workers ask for it again.
    """
    log.warning("a queue that does not answer is removed", action="bus.remove", topic=topic)
    try:
        async with asyncio.timeout(_REMOVE_S):
            async with _channel(connection) as channel:
                await told(channel.queue_delete(settings.prefix + topic))
    except TimeoutError as error:
        raise Transient("RabbitMQ does not remove a queue", retry_after_s=5.0) from error
