"""The lab's etcd: three members with authentication; `muster` may use its locks, and nothing else."""

import signal
from pathlib import Path

from muster.lab.engines.etcd import ACCOUNT, EtcdMember, ctl_command, member_command
from muster.lab.parts.accounts import account, give
from muster.lab.parts.runner import gets
from muster.lab.plan import Kind, Part
from muster.lab.processes import Launch, run
from muster.lab.site import Site

_PACKAGE = "etcd-server"
_PREFIX = "/muster/"


class EtcdRunner:
    """See `parts.runner.Runner`."""

    stop_signal = signal.SIGTERM

    def prepare(self, site: Site, part: Part) -> None:
        """Its folder."""
        give(site, part, ACCOUNT)

    def launch(self, site: Site, part: Part) -> Launch:
        """One member."""
        who = account(site, part, ACCOUNT, _PACKAGE)
        members = [_member(one) for one in site.plan.of(Kind.ETCD)]
        return Launch(
            command=member_command(_member(part), members, Path(who.home) / "data"),
            log=site.log(part),
            environment={"PATH": "/usr/bin:/bin"},
            account=who,
        )

    def is_ready(self, site: Site, part: Part) -> bool:
        """Whether it knows a leader."""
        return gets(f"http://{_member(part).endpoint}/health")

    def complete(self, site: Site, part: Part) -> None:
        """The first member turns authentication on, for all; a member is ready only once most are."""
        if part != site.plan.of(Kind.ETCD)[0]:
            return
        for words, text in (
            (("user", "add", "root", "--interactive=false"), site.secrets.etcd_root),
            (("user", "grant-role", "root", "root"), ""),
            (("role", "add", "muster"), ""),
            (("role", "grant-permission", "--prefix=true", "muster", "readwrite", _PREFIX), ""),
            (("user", "add", "muster", "--interactive=false"), site.secrets.etcd),
            (("user", "grant-role", "muster", "muster"), ""),
            (("auth", "enable"), ""),
        ):
            ctl(site, part, *words, text=text, login=False)


def ctl(site: Site, part: Part, *words: str, text: str = "", login: bool = True) -> str:
    """What etcdctl prints about a member, asked as root. Raises Transient when it does not answer."""
    return run(site.namespace(part), asking(site, part, *words, login=login), text)


def asking(site: Site, part: Part, *words: str, login: bool = True) -> Launch:
    """The etcdctl that asks a member, as root."""
    environment = {"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"}
    if login:
        environment["ETCDCTL_USER"] = f"root:{site.secrets.etcd_root}"
    command = ctl_command([_member(part).endpoint], *words)
    return Launch(command=command, log=site.log(part), environment=environment)


def _member(part: Part) -> EtcdMember:
    return EtcdMember(name=part.name, address=part.address)
