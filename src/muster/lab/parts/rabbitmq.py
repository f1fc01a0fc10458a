"""The lab's RabbitMQ: one broker, with a user `muster`; its Erlang port mapper runs in its namespace with it."""

import signal

from muster.lab.engines.rabbitmq import ACCOUNT, PORT, Broker, server_command, write_configuration
from muster.lab.parts.accounts import account, give
from muster.lab.parts.runner import answers
from muster.lab.plan import Part
from muster.lab.processes import Launch
from muster.lab.site import Site

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class RabbitmqRunner:
    """See `parts.runner.Runner`."""

    stop_signal = signal.SIGTERM

    def prepare(self, site: Site, part: Part) -> None:
        """Its configuration, which names the user and his password."""
        write_configuration(site.part_folder(part), "muster", site.secrets.rabbitmq)
        give(site, part, ACCOUNT)

    def launch(self, site: Site, part: Part) -> Launch:
        """The broker, which starts its mapper."""
        who = account(site, part, ACCOUNT, "rabbitmq-server")
        broker = Broker(name="muster", folder=who.home, address=part.address)
        return Launch(command=server_command(), log=site.log(part), environment=broker.environment(_PATH), account=who)

    def is_ready(self, site: Site, part: Part) -> bool:
        """It listens when it has started everything else."""
        return answers(part.address, PORT)

    def complete(self, site: Site, part: Part) -> None:
        """Nothing: the user is made by the configuration."""
