"""Hosts of the lab: `muster host`, with many simulated hosts in one process or one real host with its own libvirtd."""

import signal
import subprocess
import sys

from muster.base.errors import Transient
from muster.lab.api import HostList
from muster.lab.parts.control import api_url
from muster.lab.parts.runner import said
from muster.lab.parts.settings_file import NAME, write_settings
from muster.lab.plan import Kind, Part
from muster.lab.processes import Launch
from muster.lab.site import Site

METRICS_PORT = 9100
_DOWN_S = 120.0


class HostsRunner:
    """See `parts.runner.Runner`."""

    stop_signal = signal.SIGTERM

    def __init__(self, hosts: HostList) -> None:
        self._hosts = hosts

    def prepare(self, site: Site, part: Part) -> None:
        """Its settings: it knows the bus and where images are, nothing else."""
        first = site.plan.of(Kind.CONTROL)[0]
        host: dict[str, str | int] = {
            "api_url": api_url(first),
            "metrics_port": METRICS_PORT,
            "metrics_bind": part.address,
            "zone": site.plan.zones[part.kind],
        }
        if part.kind is Kind.REAL_HOST:
            host["host_ip"] = part.address
        folder = site.part_folder(part)
        write_settings(folder, {"folder": str(folder)}, {"engines": {"bus_url": site.bus_url}, "host": host})

    def launch(self, site: Site, part: Part) -> Launch:
        """One process."""
        command = [sys.executable, "-m", "muster", "host", "--settings", str(site.part_folder(part) / NAME)]
        if part.kind is Kind.REAL_HOST:
            command.append("--libvirt")
        else:
            boot_s = site.plan.settings.sim_boot_s
            command += [f"--sim-hosts={part.size}", f"--first-index={part.first}", f"--sim-boot-s={boot_s:g}"]
        return Launch(command=command, log=site.log(part), environment=site.environment, hostname=part.name)

    def is_ready(self, site: Site, part: Part) -> bool:
        """Whether it listens, and the control plane has heard of each of its hosts. Raises Transient."""
        names = {f"sim-{index:04d}" for index in range(part.first, part.first + part.size)}
        wanted = {part.name} if part.kind is Kind.REAL_HOST else names
        return said(site, part, "Muster's hosts are ready") and self._hosts.up() >= wanted

    def complete(self, site: Site, part: Part) -> None:
        """Nothing."""


def end_guests(site: Site, part: Part) -> None:
    """What a real host runs and has made on this machine is gone, as by `muster down`. Raises Transient."""
    command = [sys.executable, "-m", "muster", "down", "--data", str(site.part_folder(part))]
    try:
        done = subprocess.run(
            command, env=dict(site.environment), check=False, capture_output=True, text=True, timeout=_DOWN_S
        )
    except subprocess.TimeoutExpired as error:
        raise Transient(f"`muster down` of {part.name} hangs") from error
    if done.returncode != 0:
        raise Transient(f"`muster down` of {part.name} failed: {done.stderr.strip()}")
