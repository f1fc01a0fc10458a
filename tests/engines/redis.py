"""A Redis of one's own."""

from pathlib import Path

from benchmarks.free_ports import free_port
from muster.lab.engines.programs import program
from tests.engines.processes import Server, answers


class Redis:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": folder, "daemonize": "no"}
        command = [program("redis-server", "redis-server")]
        self._server = Server(
            [*command, *(part for k, v in options.items() for part in (f"--{k}", str(v)))], folder / "log"
        )

    def start(self) -> None:
        self._server.start()
        self._server.await_ready(lambda: answers(self.port))

    def close(self) -> None:
        self._server.stop()
