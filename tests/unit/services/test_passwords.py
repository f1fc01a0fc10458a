"""Passwords: right, wrong, of nobody; and bounded waiting."""

import asyncio
from collections.abc import Iterator

import pytest

from muster.base.errors import Transient
from muster.services.passwords import MAX_LENGTH, Passwords, PasswordSettings


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    one = Passwords(PasswordSettings(time_cost=1, memory_kib=8, threads=1, max_waiting=3))
    yield one
    one.close()


async def test_right_and_wrong(passwords: Passwords) -> None:
    made = await passwords.hash("pässword")
    assert made.startswith("$argon2id$")
    assert "pässword" not in made
    assert await passwords.verify(made, "pässword")
    for wrong in ("", "password", "pässword ", "x" * 100_000):
        assert not await passwords.verify(made, wrong)


async def test_nobody_and_broken_hashes_match_nothing(passwords: Passwords) -> None:
    assert not await passwords.verify(None, "x")
    assert not await passwords.verify(None, "")
    assert not await passwords.verify("no hash", "x")


async def test_what_is_too_long_is_not_cut_to_fit(passwords: Passwords) -> None:
    made = await passwords.hash("x" * MAX_LENGTH)
    assert await passwords.verify(made, "x" * MAX_LENGTH)
    assert not await passwords.verify(made, "x" * (MAX_LENGTH + 1))


async def test_waiting_is_bounded_and_ends(passwords: Passwords) -> None:
    asked = [asyncio.create_task(passwords.hash(str(number))) for number in range(10)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, Transient) for one in outcomes) == 7
    assert await passwords.hash("again")
