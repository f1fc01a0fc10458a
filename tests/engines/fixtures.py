"""Engines as fixtures, each started once per test process, by the first test that wants it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engines.etcd import Etcd
from tests.engines.rabbitmq import RabbitMq
from tests.engines.redis import Redis


@contextmanager
def folder(kind: str) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=f"muster-{kind}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with folder("redis") as path:
        server = Redis(path)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """One member, shared by the tests of a process: each takes names of its own."""
    with folder("etcd") as path:
        cluster = Etcd(path)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def three_etcd() -> Iterator[Etcd]:
    """Three members. Whoever kills one starts it again."""
    with folder("etcd-3") as path:
        cluster = Etcd(path, members=3)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq]:
    """One broker per test process. Whoever kills it starts it again."""
    with folder("rabbitmq") as path:
        broker = RabbitMq(path)
        try:
            broker.start()
            yield broker
        finally:
            broker.close()
