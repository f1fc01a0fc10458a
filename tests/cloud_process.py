"""`muster up` with simulated hosts in a process of its own, for clients that are programs themselves. Blocking."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 300.0
STOP_S = 120.0
READY = "ready at "


class CloudProcess:
    """A cloud that runs; `environment` tells clients of it, `base_url` where it is."""

    def __init__(self, folder: Path, sim_hosts: int, *options: str) -> None:
        self.clouds_yaml = folder / "data" / "clouds.yaml"
        self._log = folder / "log"
        arguments = ["up", "--data", str(folder / "data"), "--port", "0", "--sim-hosts", str(sim_hosts), *options]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "muster", *arguments], stdout=output, stderr=output, start_new_session=True
            )

    @property
    def environment(self) -> dict[str, str]:
        return {"OS_CLIENT_CONFIG_FILE": str(self.clouds_yaml), "OS_CLOUD": "muster"}

    @property
    def base_url(self) -> str:
        return self.log().partition(READY)[2].split()[0]

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def wait(self) -> None:
        end = time.monotonic() + START_S
        while READY not in self.log():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the cloud did not start: {self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def cloud_process(folder: Path, sim_hosts: int, *options: str) -> Iterator[CloudProcess]:
    """A cloud that has started, with its files in `folder`; ended with the block. `options` are `muster up`'s."""
    cloud = CloudProcess(folder, sim_hosts, *options)
    try:
        cloud.wait()
        yield cloud
    finally:
        cloud.stop()
