"""How the adapter for real networks is left, and what it says of what it cannot look after."""

import asyncio
import threading
from pathlib import Path

import pytest

from muster.host.network import LinuxPlumbing, NetworkSettings


async def test_leaving_waits_for_dhcp_and_stops_nobody_else(tmp_path: Path) -> None:
    """It once stopped the whole event loop for as long as a DHCP server did not answer."""
    plumbing = LinuxPlumbing(NetworkSettings(state_dir=tmp_path))
    over = threading.Event()
    waited = plumbing._servers.submit(over.wait, 30)
    asyncio.get_running_loop().call_later(0.01, over.set)
    await plumbing.close()
    assert waited.result()


async def test_what_cannot_be_looked_after_is_said_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plumbing = LinuxPlumbing(NetworkSettings(state_dir=tmp_path, check_s=0.001))
    looks = 0

    def revive() -> None:
        nonlocal looks
        looks += 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plumbing._dhcp, "revive", revive)
    async with asyncio.timeout(300):
        while looks < 3:
            await asyncio.sleep(0.001)
    await plumbing.close()
    assert capsys.readouterr().out.count("No space left on device") == 1
