"""Servers of tests end with all their connections, however a connection's arrival and the end meet."""

import asyncio
import gc
import socket
import warnings

import pytest

from tests.serving import ended

TURNS = range(8)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _nothing_is_left_open() -> None:
    """Whoever forgot to close something is told when it is collected."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    assert [str(one.message) for one in told] == []


@pytest.mark.parametrize("turns", TURNS)
async def test_a_server_ends_while_somebody_connects(turns: int) -> None:
    writers: set[asyncio.StreamWriter] = set()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        await _turns(turns)
        await ended(server, writers)
        _nothing_is_left_open()
