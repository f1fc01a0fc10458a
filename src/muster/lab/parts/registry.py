"""The runner of each kind of part."""

from muster.lab.api import HostList
from muster.lab.parts.control import ControlRunner
from muster.lab.parts.etcd import EtcdRunner
from muster.lab.parts.hosts import HostsRunner
from muster.lab.parts.postgresql import PostgresqlRunner
from muster.lab.parts.rabbitmq import RabbitmqRunner
from muster.lab.parts.runner import Runner
from muster.lab.plan import Kind
from muster.lab.site import Site


def runners(site: Site) -> dict[Kind, Runner]:
    """The runners of a lab."""
    hosts = HostsRunner(HostList(site.folder / "clouds.yaml"))
    return {
        Kind.POSTGRESQL: PostgresqlRunner(),
        Kind.ETCD: EtcdRunner(),
        Kind.RABBITMQ: RabbitmqRunner(),
        Kind.CONTROL: ControlRunner(),
        Kind.SIM_HOSTS: hosts,
        Kind.REAL_HOST: hosts,
    }
