"""Work in a process that leaves the machine's network for one of its own, and whose DHCP servers end with it."""

import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from muster.base.errors import Transient, Unsupported
from muster.base.tasks import to_its_end
from muster.bench.launch import stop, tail
from muster.host.network import processes

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


async def apart(module: str, order: msgspec.Struct, result: type[_T], *, limit_s: float) -> _T:
    """Run `python -m module ORDER FOLDER` and read its `FOLDER/measured.json`. Raises Transient, Unsupported.

    Whatever becomes of it, its process, its folder and the DHCP servers that it started are gone afterwards.
    """
    if os.geteuid() != 0:
        raise Unsupported("this benchmark makes network namespaces and needs root")
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as name:
        folder = Path(name)
        log = folder / "log"
        arguments = ("-m", module, msgspec.json.encode(order).decode(), name)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=output, stderr=output)
        try:
            async with asyncio.timeout(limit_s):
                await process.wait()
        except TimeoutError as error:
            raise Transient(f"{module}: not done after {limit_s:g} s") from error
        finally:
            await to_its_end(stop(process))
            _end_servers(folder)
        if process.returncode != 0:
            raise Transient(f"{module} ended with status {process.returncode}; it said: {tail(log)}")
        return msgspec.json.decode((folder / "measured.json").read_bytes(), type=result)


def leave_network() -> None:
    """This process has a network of its own from now on, with nothing in it. Raises Unsupported."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise Unsupported(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["/usr/sbin/ip", "link", "set", "lo", "up"], check=True, timeout=10)


def _end_servers(folder: Path) -> None:
    """DHCP servers outlive who started them; a process that was killed has left some."""
    for pid_file in folder.glob("*/dhcp/*/pid"):
        processes.stop(pid_file, f"--conf-file={pid_file.with_name('conf')}", 5.0)
