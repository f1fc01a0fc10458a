"""Microversions, negotiated as Nova does (https://docs.openstack.org/nova/latest/contributor/microversions.html)."""

import re
from collections.abc import Mapping

from muster.api.http.application import Hooks
from muster.api.http.requests import Request
from muster.base.errors import Invalid, Unsupported

LOWEST = (2, 1)
HIGHEST = (2, 90)

_VERSION = re.compile(r"([1-9]\d{0,5})\.(0|[1-9]\d{0,5})")


def text(version: tuple[int, int]) -> str:
    """A version as headers write it."""
    return f"{version[0]}.{version[1]}"


class Microversions(Hooks):
    """Sets `request.version` from the headers, and tells it in each response."""

    def prepare(self, request: Request) -> None:
        """Raises Invalid for what is no version, Unsupported (406) for one that is not offered."""
        request.version = LOWEST
        request.version = _asked(request)

    def headers(self, request: Request | None) -> Mapping[str, str]:
        version = text(request.version if request else LOWEST)
        return {
            "OpenStack-API-Version": f"compute {version}",
            "X-OpenStack-Nova-API-Version": version,
            "Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
        }


def _asked(request: Request) -> tuple[int, int]:
    wanted = request.headers.get("x-openstack-nova-api-version")
    for part in request.headers.get("openstack-api-version", "").split(","):
        service, _, version = part.strip().partition(" ")
        if service == "compute":
            wanted = version.strip()
    if wanted is None:
        return LOWEST
    if wanted == "latest":
        return HIGHEST
    match = _VERSION.fullmatch(wanted)
    if match is None:
        raise Invalid(f"API Version String {wanted} is of invalid format. Must be of format MajorNum.MinorNum.")
    asked = (int(match[1]), int(match[2]))
    if not LOWEST <= asked <= HIGHEST:
        raise Unsupported(
            f"Version {wanted} is not supported by the API. Minimum is {text(LOWEST)} and maximum is {text(HIGHEST)}.",
            code="compute.microversion",
        )
    return asked
