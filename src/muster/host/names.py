"""Names of what a host makes, derived from ids alone, so that any process finds again what an earlier one left.

Interface names are limited to 15 characters (IFNAMSIZ); 11 hexadecimal digits of a random UUID keep them apart.
"""


def tap_name(port_id: str) -> str:
    """The tap of a port, like Neutron's: `tap` and the first 11 characters of the id."""
    return "tap" + port_id[:11]


def bridge_name(network_id: str) -> str:
    """The bridge of a network, like Neutron's linuxbridge agent's: `brq` and the first 11 characters of the id."""
    return "brq" + network_id[:11]


def tunnel_name(network_id: str) -> str:
    """A network's VXLAN interface: `vxl` and the first 11 characters of the id."""
    return "vxl" + network_id[:11]


def tunnel_of(bridge: str) -> str:
    """The VXLAN interface of the network whose bridge has this name."""
    return tunnel_name(bridge.removeprefix("brq"))
