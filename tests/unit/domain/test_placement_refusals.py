"""A server that found no host says why."""

import pytest

from muster.domain.placement import Demand, GroupRule, Request
from muster.domain.placement_refusals import Room, refusal

ASKED = Demand(vcpus=4, ram_mib=2048, disk_gib=20)
ENOUGH = Demand(vcpus=8, ram_mib=4096, disk_gib=100)
GROUP = GroupRule("g", "anti-affinity", {})


@pytest.mark.parametrize(
    ("room", "named", "reason"),
    [
        (Room(0, Demand()), {}, "No host is up and enabled."),
        (
            Room(0, Demand()),
            {"availability_zone": "east"},
            "The availability zone east has no host that is up and enabled.",
        ),
        (Room(0, Demand()), {"hostname": "h1"}, "The host h1 is down, disabled or in another zone."),
        (
            Room(3, Demand(vcpus=8, ram_mib=1024, disk_gib=100)),
            {},
            "No host has enough memory left for this flavor.",
        ),
        (
            Room(3, Demand(vcpus=3, ram_mib=1024, disk_gib=19)),
            {"group": GROUP},
            "No host has enough memory, processors and disk left for this flavor.",
        ),
        (
            Room(3, ENOUGH),
            {"group": GROUP},
            "No host has room that the policy anti-affinity of its server group allows.",
        ),
        # One has the memory and another the disk, or what others asked at the same moment took it.
        (Room(3, ENOUGH), {}, "There are not enough hosts available."),
    ],
)
def test_the_reason(room: Room, named: dict, reason: str) -> None:
    refused = refusal(Request(server_id="s", demand=ASKED, **named), room)
    assert refused.message == f"No valid host was found. {reason}"


def test_the_figures_are_in_the_details() -> None:
    refused = refusal(Request(server_id="s", demand=ASKED), Room(3, Demand(vcpus=8, ram_mib=1024, disk_gib=100)))
    assert refused.details == (
        "Hosts that may be given it: 3. Asked, of the most that one of them has left: memory 2048 of 1024 MiB, "
        "processors 4 of 8, disk 20 of 100 GiB."
    )
