"""Tokens of file locks grow over restarts, and over whatever happens to the counter or the clock."""

import time
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.locks.tooz import ToozLocks


async def _token(folder: Path) -> int:
    """That of a grant of a process that has just started."""
    locks = ToozLocks(f"file://{folder}/locks", "one", folder / "tokens")
    await locks.start()
    try:
        async with locks.hold("subnet/1") as grant:
            return grant.token
    finally:
        await locks.close()


async def test_tokens_grow_over_restarts(tmp_path: Path) -> None:
    tokens = [await _token(tmp_path) for _ in range(3)]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("content", [None, b"", b"\x00\x00\x00", b"-5", b"12 monkeys"])
async def test_a_lost_or_damaged_counter_is_no_harm(tmp_path: Path, content: bytes | None) -> None:
    before = await _token(tmp_path)
    [counter] = (tmp_path / "tokens").glob("*.token")
    if content is None:
        counter.unlink()
    else:
        counter.write_bytes(content)
    assert await _token(tmp_path) > before


async def test_a_clock_that_is_set_back_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await _token(tmp_path)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert await _token(tmp_path) == before + 1


@pytest.mark.parametrize("url", ["nosuch://user:hidden@host", "nosuch:", ""])
def test_a_service_that_tooz_does_not_have_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Invalid, match="Tooz has no lock service") as refused:
        ToozLocks(url, "one", tmp_path)
    assert "hidden" not in refused.value.message
