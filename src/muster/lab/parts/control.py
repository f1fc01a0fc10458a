"""A control machine of the lab: `muster serve` with some workers."""

import signal
import sys

from muster.lab.parts.runner import gets, said
from muster.lab.parts.settings_file import NAME, write_settings
from muster.lab.plan import API_PORT, REAL_ZONE, Part
from muster.lab.processes import Launch
from muster.lab.site import Site

METRICS_PORT = 9100


def api_url(part: Part) -> str:
    """Where a control machine serves the APIs."""
    return f"http://{part.address}:{API_PORT}"


class ControlRunner:
    """See `parts.runner.Runner`."""

    stop_signal = signal.SIGTERM

    def prepare(self, site: Site, part: Part) -> None:
        """Its settings, and the images: on a file system of all control machines, or its own."""
        engines = {"database_url": site.database_url, "locks_url": site.locks_url, "bus_url": site.bus_url}
        serve: dict[str, str | int] = {
            "bind": part.address,
            "port": API_PORT,
            "workers": part.size,
            "metrics_port": METRICS_PORT,
            "metrics_bind": part.address,
        }
        if site.plan.settings.real_hosts:
            serve["default_zone"] = REAL_ZONE
        if site.plan.settings.guest_image:
            serve["guest_image"] = site.plan.settings.guest_image
        folder = site.part_folder(part)
        if site.plan.settings.own_images:
            serve["image_url"] = api_url(part)
        else:
            (folder / "images").symlink_to(site.images, target_is_directory=True)
        top = {"folder": str(folder), "secret": site.secrets.cloud}
        write_settings(folder, top, {"engines": engines, "serve": serve})

    def launch(self, site: Site, part: Part) -> Launch:
        """The supervisor, which starts its workers."""
        command = [sys.executable, "-m", "muster", "serve", "--settings", str(site.part_folder(part) / NAME)]
        return Launch(command=command, log=site.log(part), environment=site.environment, hostname=part.name)

    def is_ready(self, site: Site, part: Part) -> bool:
        """Whether all of its workers have come to answer, and one reaches the engines now."""
        return said(site, part, "Muster is ready at") and gets(f"{api_url(part)}/healthcheck/ready")

    def complete(self, site: Site, part: Part) -> None:
        """Nothing."""
