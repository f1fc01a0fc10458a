"""Microversions, negotiated as Nova does (https://docs.openstack.org/nova/latest/contributor/microversions.html).

A route that exists only in some versions says so in the route table (`Route.since`, `Route.until`); what else differs
by version asks `request.version`.
"""

import re
from collections.abc import Mapping

from muster.api.compute import versions
from muster.api.compute.absences import ABSENCES
from muster.api.http.application import Hooks
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, Unsupported

LOWEST, HIGHEST = versions.LOWEST, versions.HIGHEST

_HEADER = "OpenStack-API-Version"
_LEGACY_HEADER = "X-OpenStack-Nova-API-Version"
_VERSION = re.compile(r"([1-9]\d{0,5})\.(0|[1-9]\d{0,5})")


class Microversions(Hooks):
    """Sets `request.version` from the headers, and tells it in each response."""

    absences = ABSENCES

    def prepare(self, request: Request) -> None:
        """Raises Invalid for what is no version, Unsupported (406) for one that is not offered, NotFound."""
        request.version = _asked(request)
        if not LOWEST <= request.version <= HIGHEST:
            wanted, lowest, highest = map(versions.text, (request.version, LOWEST, HIGHEST))
            raise Unsupported(
                f"Version {wanted} is not supported by the API. Minimum is {lowest} and maximum is {highest}.",
                code="compute.microversion",
            )

    def headers(self, request: Request) -> Mapping[str, str]:
        """The request's id under Nova's own name, and the version in use, where the request came so far to have one."""
        named = {"X-Compute-Request-Id": request.request_id}
        if request.version == (0, 0):
            return named
        version = versions.text(request.version)
        return {
            **named,
            _HEADER: f"compute {version}",
            _LEGACY_HEADER: version,
            "Vary": f"{_HEADER}, {_LEGACY_HEADER}",
        }

    async def elsewhere(self, request: Request) -> Response:
        """Outside of any version: which ones there are (300). Raises NotFound inside of one."""
        if request.path.startswith("/v2.1/"):
            return await super().elsewhere(request)
        return await versions.choices(request)


def _asked(request: Request) -> tuple[int, int]:
    wanted = _standard(request.headers.get(_HEADER, ""))
    if wanted is None:
        wanted = request.headers.get(_LEGACY_HEADER, "").rpartition(",")[2].strip() or None
    if wanted is None:
        return LOWEST
    if wanted == "latest":
        return HIGHEST
    match = _VERSION.fullmatch(wanted)
    if match is None:
        raise Invalid(f"API Version String {wanted} is of invalid format. Must be of format MajorNum.MinorNum.")
    return (int(match[1]), int(match[2]))


def _standard(header: str) -> str | None:
    """What a header like `compute 2.79, volume 3.1` says of compute; its last word counts."""
    for part in reversed(header.split(",")):
        service, _, version = part.strip().partition(" ")
        if service.lower() == "compute" and version.strip():
            return version.strip()
    return None
