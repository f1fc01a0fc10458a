"""`GET /metrics`: this process's metrics as Prometheus reads them.

They need no token: a scraper has none. They name no project, server or user, but say how busy the cloud is, so that
on the APIs' own port anyone from beyond the loopback interface is answered as if nothing were here.
"""

from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Scope

from muster.api.http.responses import Response


def metrics_response(scope: Scope) -> Response:
    """The answer to a request for the metrics. No queries."""
    if scope["method"] not in ("GET", "HEAD"):
        return Response({"message": "Method not allowed"}, status=405, headers={"Allow": "GET, HEAD"})
    response = Response(headers={"Content-Type": CONTENT_TYPE_LATEST})
    response.body = generate_latest()
    return response


def is_local(scope: Scope) -> bool:
    """Whether the caller is on the loopback interface."""
    client = scope.get("client")
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    # A socket that takes both families tells an IPv4 address as an IPv6 one.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
