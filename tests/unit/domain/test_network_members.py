"""Where hosts' tunnels can end."""

import pytest

from muster.domain.network_members import tunnel_address


@pytest.mark.parametrize(
    ("host_ip", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("0.0.0.0", None),
        ("224.0.0.1", None),
        ("2001:db8::1", None),
        ("", None),
        ("a-name", None),
    ],
)
def test_only_an_ipv4_address_that_others_reach(host_ip: str, address: str | None) -> None:
    assert tunnel_address(host_ip) == address
