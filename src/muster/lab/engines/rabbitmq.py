"""RabbitMQ: a broker with all of its files in one folder, and an Erlang port mapper (epmd) of its own."""

from pathlib import Path

from msgspec import Struct

from muster.lab.engines.programs import program

#: Who a broker may run as where the caller is root; Debian's package makes it.
ACCOUNT = "rabbitmq"
PORT = 5672
_LIBRARY = Path("/usr/lib/rabbitmq/bin")
# The Erlang distribution, which rabbitmqctl comes by, and the schedulers: few, and none that waits by spinning.
_ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"


class Broker(Struct, frozen=True, kw_only=True):
    """A broker as it sees itself: `folder` is where it finds its files; the mapper is on loopback, as are its tools."""

    name: str
    folder: Path
    address: str
    port: int = PORT
    distribution_port: int = 25672
    mapper_port: int = 4369

    def environment(self, path: str) -> dict[str, str]:
        """The environment of broker and tools; `path` is where they find Erlang."""
        return {
            "PATH": path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            # A tool that dies writes a dump where it was called otherwise, with its environment in it.
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.mapper_port),
            "RABBITMQ_NODENAME": f"{self.name}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self.address,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }

    def mapper_command(self) -> list[str]:
        """Runs the mapper in the foreground; without one, the broker starts one that outlives it."""
        return [program("epmd", "erlang-base"), "-port", str(self.mapper_port), "-address", "127.0.0.1"]


def write_configuration(folder: Path, user: str, password: str, more: str = "") -> None:
    """What a broker reads at its start, into `folder`; `more` are further lines of rabbitmq.conf."""
    lines = [
        f"default_user = {user}",
        f"default_pass = {password}",
        "loopback_users = none",
        "log.console = true",
        "log.file = false",
        "disk_free_limit.absolute = 50MB",
    ]
    (folder / "rabbitmq.conf").touch(mode=0o600)
    (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n" + more)
    (folder / "plugins").write_text("[].\n")


def server_command() -> list[str]:
    """Runs the broker in the foreground. Raises Unsupported where it is not installed."""
    program("rabbitmq-server", "rabbitmq-server")  # Debian's own changes the user; what it calls does not
    return [str(_LIBRARY / "rabbitmq-server")]


def ctl_command(*words: str) -> list[str]:
    """Tells the broker of the environment something."""
    return [str(_LIBRARY / "rabbitmqctl"), "--quiet", *words]
