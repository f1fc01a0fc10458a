"""What there is none of is said, and nothing of what is offered is among it."""

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import pytest

from muster.api.compute.absences import ABSENCES as COMPUTE
from muster.api.compute.routes import routes as compute_routes
from muster.api.http.absences import NO_RESOURCE, Absences, not_found
from muster.api.http.routing import Routes
from muster.api.identity.absences import ABSENCES as IDENTITY
from muster.api.identity.routes import routes as identity_routes
from muster.api.image.absences import ABSENCES as IMAGE
from muster.api.image.routes import routes as image_routes
from muster.api.network.absences import ABSENCES as NETWORK
from muster.api.network.routes import routes as network_routes

TABLES: dict[str, tuple[Absences, Callable[[Any], Routes]]] = {
    "compute": (COMPUTE, compute_routes),
    "identity": (IDENTITY, identity_routes),
    "image": (IMAGE, image_routes),
    "network": (NETWORK, network_routes),
}


@pytest.mark.parametrize("api", TABLES)
def test_nothing_that_is_offered_is_said_to_be_absent(api: str) -> None:
    absences, routes = TABLES[api]
    for _, path in routes(MagicMock()):
        assert not_found(path, absences).message == NO_RESOURCE, path


def test_the_words() -> None:
    error = not_found("/v2.0/routers/x/add_router_interface", NETWORK)
    assert error.message.startswith("The resource could not be found: this cloud has no routers and no floating ")
    assert error.code == "http.path"
    assert not_found("/v2.0/floatingips", NETWORK).message == error.message
    assert not_found("/v2.0/routersx", NETWORK).message == NO_RESOURCE
    assert not_found("/v2/images/x/stage", IMAGE).message.endswith("no import of images; upload their content.")
    assert not_found("/v2/schemas/metadefs/namespace", IMAGE).message.endswith("no definitions of metadata.")
    assert not_found("/v3/domains/config/default", IDENTITY).message.endswith("no settings of single domains.")
    assert not_found("/v2.1/os-security-groups/1", COMPUTE).message.endswith("compute API; use the network API.")
    assert "hosts tell" in not_found("/v2.1/os-server-external-events", COMPUTE).message
    assert not_found("/v2.0/tokens", IDENTITY).message.endswith("use version 3 (.../identity/v3).")
