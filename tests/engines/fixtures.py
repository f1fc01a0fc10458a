"""Engines as fixtures, each started once per test process, by the first test that wants it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

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


class Engine(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


Made = TypeVar("Made", bound=Engine)


@contextmanager
def running(kind: str, make: Callable[[Path], Made]) -> Iterator[Made]:
    """An engine in a folder of its own; both are gone at the end."""
    with folder(kind) as path:
        engine = make(path)
        try:
            engine.start()
            yield engine
        finally:
            engine.close()


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with running("redis", Redis) as server:
        yield server


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    """One member, shared by the tests of a process: each takes names of its own."""
    with running("etcd", Etcd) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def three_etcd() -> Iterator[Etcd]:
    """Three members. Whoever kills one starts it again."""
    with running("etcd-3", partial(Etcd, members=3)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMq]:
    """One broker per test process. Whoever kills it starts it again."""
    with running("rabbitmq", RabbitMq) as broker:
        yield broker
