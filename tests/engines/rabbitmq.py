"""A RabbitMQ broker of one's own, with an Erlang port mapper of its own; nothing listens beyond loopback."""

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

from benchmarks.free_ports import free_port
from muster.lab.engines.rabbitmq import Broker, ctl_command, server_command, write_configuration
from tests.engines.certificates import Authority
from tests.engines.processes import Server, answers

#: Options of a URL for who waits longer than a busy machine takes for anything, where that is not what is tested.
PATIENT = "connect_s=60&publish_s=30"

USER = "muster"
PASSWORD = "a:secret/of@tests"


class RabbitMq:
    """`start` after `stop` or `kill` finds what was there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("broker")
        write_configuration(
            folder,
            USER,
            PASSWORD,
            f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {self.authority.file}\n"
            f"ssl_options.certfile = {certificate}\n"
            f"ssl_options.keyfile = {key}\n",
        )
        node = Broker(
            name=f"muster{self.port}",
            folder=folder,
            address="127.0.0.1",
            port=self.port,
            distribution_port=free_port(),
            mapper_port=free_port(),
        )
        self.environment = node.environment(os.environ["PATH"])
        self._mapper = Server(node.mapper_command(), folder / "epmd.log", environment=self.environment)
        self._mapper_port = node.mapper_port
        self._server = Server(server_command(), folder / "log", environment=self.environment)

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"amqp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"

    def start(self) -> None:
        if self._mapper.process is None:
            self._mapper.start()
            self._mapper.await_ready(lambda: answers(self._mapper_port))
        self._server.start()
        self._server.await_ready(lambda: answers(self.port) and answers(self.tls_port))

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop()

    def close(self) -> None:
        """End everything."""
        self._server.kill()
        self._mapper.kill()

    def control(self, *words: str) -> str:
        """What rabbitmqctl prints."""
        done = subprocess.run(
            ctl_command(*words),
            check=True,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=300,
        )
        return done.stdout
