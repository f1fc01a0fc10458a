"""Each lab has a subnet of its own."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from muster.base.errors import Exhausted
from muster.lab.subnets import free_subnet, lab_id


def test_a_folder_has_one_id_and_another_folder_another() -> None:
    assert lab_id(Path("/tmp/one")) == lab_id(Path("/tmp/one"))
    assert lab_id(Path("/tmp/one")) != lab_id(Path("/tmp/two"))
    assert lab_id(Path("one")) == lab_id(Path.cwd() / "one")


def test_what_is_taken_is_stepped_over() -> None:
    first = free_subnet("0001ff", [])
    assert first == "198.19.255.0/24"
    assert free_subnet("0001ff", [first]) == "198.18.0.0/24", "after the last comes the first"
    assert free_subnet("000000", ["198.18.0.1/24", "198.18.1.77", "local", "default"]) == "198.18.2.0/24"


def test_a_default_route_takes_nothing_and_a_private_network_of_others_neither() -> None:
    assert free_subnet("000000", ["0.0.0.0/0", "default", "10.0.0.0/8", "fe80::/64"]) == "198.18.0.0/24"


def test_when_all_are_taken() -> None:
    taken = [str(one) for one in IPv4Network("198.18.0.0/15").subnets(new_prefix=24)]
    with pytest.raises(Exhausted):
        free_subnet("000000", taken)
