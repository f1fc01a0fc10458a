"""What a lab is made of."""

from ipaddress import ip_address, ip_network

import pytest

from muster.base.errors import Invalid
from muster.lab.plan import ENGINES, HOSTS, Kind, LabSettings, make_plan

SUBNET = "198.18.7.0/24"


def test_every_part_has_a_name_and_an_address_of_its_own() -> None:
    plan = make_plan(
        "abcdef", SUBNET, LabSettings(workers=9, machines=4, sim_hosts=100, sim_processes=40, real_hosts=9)
    )
    addresses = [plan.caller_address, *(part.address for part in plan.parts)]
    assert len(set(addresses)) == len(addresses)
    assert all(ip_address(address) in ip_network(SUBNET) for address in addresses)
    names = [part.name for part in plan.parts]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 for name in names), "they are names of links too"
    assert len(plan.of(*ENGINES)) == 5
    assert len(plan.of(*HOSTS)) == 40 + 9


def test_workers_and_simulated_hosts_are_spread_evenly_and_counted_through() -> None:
    plan = make_plan("abcdef", SUBNET, LabSettings(workers=5, machines=2, sim_hosts=7, sim_processes=3))
    assert [part.workers for part in plan.of(Kind.CONTROL)] == [
        ["worker-1", "worker-2", "worker-3"],
        ["worker-4", "worker-5"],
    ]
    hosts = [list(range(part.first, part.first + part.size)) for part in plan.of(Kind.SIM_HOSTS)]
    assert hosts == [[0, 1, 2], [3, 4], [5, 6]]


def test_a_lab_may_have_no_simulated_hosts() -> None:
    assert make_plan("abcdef", SUBNET, LabSettings(sim_hosts=0)).of(*HOSTS) == []


def test_simulated_hosts_have_a_zone_of_their_own_beside_real_ones() -> None:
    assert make_plan("abcdef", SUBNET, LabSettings()).zones[Kind.SIM_HOSTS] == "nova"
    assert make_plan("abcdef", SUBNET, LabSettings(real_hosts=1)).zones[Kind.SIM_HOSTS] == "sim"


@pytest.mark.parametrize("wrong", [LabSettings(workers=1, machines=2), LabSettings(sim_hosts=2, sim_processes=3)])
def test_numbers_that_do_not_fit(wrong: LabSettings) -> None:
    with pytest.raises(Invalid):
        make_plan("abcdef", SUBNET, wrong)
