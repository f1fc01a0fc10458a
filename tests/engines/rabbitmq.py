"""A RabbitMQ broker of one's own, with an Erlang port mapper of its own; nothing listens beyond loopback."""

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

from tests.engines.certificates import Authority
from tests.engines.processes import STOP_TIMEOUT_S, Server, answers, free_port, program

USER = "muster"
PASSWORD = "a:secret/of@tests"
_LIBRARY = Path("/usr/lib/rabbitmq/bin")

_CONFIGURATION = f"""
default_user = {USER}
default_pass = {PASSWORD}
loopback_users = none
log.console = true
log.file = false
disk_free_limit.absolute = 50MB
cluster_name = tests
"""


class RabbitMq:
    """`start` after `stop` or `kill` finds what was there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("broker")
        program("rabbitmq-server", "rabbitmq-server")
        (folder / "rabbitmq.conf").write_text(
            _CONFIGURATION
            + f"listeners.ssl.default = 127.0.0.1:{self.tls_port}\n"
            + f"ssl_options.cacertfile = {self.authority.file}\n"
            + f"ssl_options.certfile = {certificate}\n"
            + f"ssl_options.keyfile = {key}\n"
        )
        (folder / "plugins").write_text("[].\n")
        mapper = free_port()
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_NODENAME": f"muster{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 2:2 +sbwt none",
        }
        self._mapper = Server(
            [program("epmd", "erlang-base"), "-port", str(mapper), "-address", "127.0.0.1"],
            folder / "epmd.log",
            environment=self.environment,
        )
        self._mapper_port = mapper
        self._server = Server([str(_LIBRARY / "rabbitmq-server")], folder / "log", environment=self.environment)

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
            [str(_LIBRARY / "rabbitmqctl"), "--quiet", *words],
            check=True,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=3 * STOP_TIMEOUT_S,
        )
        return done.stdout
