"""Who may see and change a network resource, as Neutron answers it.

What the caller may not know of is not found; what it sees but may not change is forbidden.
"""

from muster.base.errors import MusterError
from muster.domain.context import Context
from muster.domain.network_errors import disallowed, network_error
from muster.domain.networks import Network
from muster.domain.networks import visible as network_visible


def scope_of(context: Context) -> str | None:
    """The project whose things a list shows; None for those of all projects."""
    return None if context.is_admin else context.project_id or ""


def seen_network(networks: dict[str, Network], network_id: str, context: Context) -> Network:
    """The network, if the caller may see it. Raises NotFound."""
    network = networks.get(network_id)
    if network is None or not network_visible(network, context):
        raise network_error("NetworkNotFound", net_id=network_id)
    return network


def check_owner(context: Context, project_id: str, action: str) -> None:
    """Raises Forbidden unless the caller's project owns what it wants to change (an admin owns all)."""
    if not context.sees(project_id):
        raise disallowed(action)


def first_refusal(refusals: list[str]) -> MusterError:
    """The error of requests that do not fit the quotas of these resources."""
    return network_error("OverQuota", overs=sorted(set(refusals)))
