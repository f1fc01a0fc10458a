"""Whole runs against the fake cloud: what is counted, what is not repeated, what is left behind."""

import asyncio
import math
from pathlib import Path

import pytest

from muster.base.errors import Forbidden, Invalid, NotFound, Transient, Unauthenticated
from muster.bench.observer import SilentObserver
from muster.bench.options import Phase
from muster.bench.records import MOMENTS, Leftover, ServersResult
from muster.bench.run import run_servers
from muster.client.open_files import ensure_open_files

from .conftest import Lab
from .fake_cloud import FLAVOR_ID, IMAGE_ID, NETWORK_ID, FakeCloud, clouds_yaml

# openstacksdk warns about its own optional InfluxDB support whenever it reads a configuration.
pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB requires")


class Recorder(SilentObserver):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.expected: dict[Phase, int] = {}
        self.passes: dict[Phase, int] = {}
        self.failures: dict[Phase, list[str]] = {}
        self.leftovers: list[Leftover] = []

    def expects(self, phase: Phase, servers: int) -> None:
        self.expected[phase] = servers

    def passed(self, phase: Phase) -> None:
        self.passes[phase] = self.passes.get(phase, 0) + 1

    def failed(self, phase: Phase, reason: str) -> None:
        self.failures.setdefault(phase, []).append(reason)

    def left(self, leftover: Leftover) -> None:
        self.leftovers.append(leftover)


def rows(result: ServersResult) -> dict[str, tuple[int, int]]:
    return {figure.name: (figure.ok, figure.total) for figure in result.figures}


def nothing_is_left(cloud: FakeCloud) -> bool:
    return not cloud.alive() and not cloud.keypairs and not cloud.groups


async def test_all_servers_come_up_and_go(lab: Lab) -> None:
    cloud = await lab.cloud()
    observer = Recorder()
    result = await run_servers(lab.options(count=50), observer)
    assert result.ok, (result.faults, result.traffic, result.leftovers)
    assert rows(result) == {"POST accepted": (50, 50), "create": (50, 50), "delete": (50, 50)}
    assert observer.expected == observer.passes == {Phase.CREATE: 50, Phase.DELETE: 50}
    assert cloud.calls["POST servers"] == cloud.calls["DELETE servers"] == 50
    assert nothing_is_left(cloud)


async def test_moments_are_in_order(lab: Lab) -> None:
    await lab.cloud(build_more_s=0.01, delete_s=0.1)
    result = await run_servers(lab.options(count=20))
    for record in result.servers:
        moments = [moment for name in MOMENTS if (moment := getattr(record, name)) is not None]
        assert moments == sorted(moments)
        assert len(moments) == 7  # ready at once after ACTIVE
        assert record.launched_at is not None


async def test_a_server_is_not_active_before_the_cloud_says_so(lab: Lab) -> None:
    await lab.cloud(build_s=0.5, delete_s=0.4)
    result = await run_servers(lab.options(count=5))
    spreads = {figure.name: figure.spread for figure in result.figures}
    assert spreads["create"] is not None
    assert spreads["create"].min_s >= 0.5
    assert spreads["delete"] is not None
    assert spreads["delete"].min_s >= 0.4


async def test_the_post_says_what_was_resolved(lab: Lab) -> None:
    cloud = await lab.cloud(network_url_has_version=True)
    await run_servers(lab.options(count=1, image="guest", flavor="m1.big", network="net"))
    (body,) = cloud.bodies
    name = body.pop("name")
    assert name.startswith("bench-")
    assert body == {"imageRef": IMAGE_ID, "flavorRef": "big", "networks": [{"uuid": NETWORK_ID}]}


async def test_ids_and_defaults_lead_to_the_same(lab: Lab) -> None:
    cloud = await lab.cloud()
    await run_servers(lab.options(count=1, image=IMAGE_ID, flavor=FLAVOR_ID, network=NETWORK_ID))
    await run_servers(lab.options(count=1))
    first, second = ({key: value for key, value in body.items() if key != "name"} for body in cloud.bodies)
    assert first == second


async def test_failed_builds_are_counted_and_explained(lab: Lab) -> None:
    cloud = await lab.cloud(error_every=5)
    observer = Recorder()
    result = await run_servers(lab.options(count=20), observer)
    assert not result.ok
    assert rows(result) == {"POST accepted": (20, 20), "create": (16, 20), "delete": (20, 20)}
    assert [(fault.phase, fault.text, fault.servers) for fault in result.faults] == [
        (Phase.CREATE, "ERROR: No valid host was found for <id>.", 4)
    ]
    assert len(observer.failures[Phase.CREATE]) == 4
    assert nothing_is_left(cloud)


@pytest.mark.parametrize("status", [400, 403, 409, 429, 500, 503])
async def test_a_refused_request_is_an_error_and_not_repeated(lab: Lab, status: int) -> None:
    cloud = await lab.cloud(refuse={3: status})
    result = await run_servers(lab.options(count=5))
    assert cloud.calls["POST servers"] == 5
    assert rows(result)["POST accepted"] == (4, 5)
    assert result.traffic.errors == {f"POST servers: {status}": 1}
    assert result.traffic.retries == {}
    assert [fault.text for fault in result.faults] == [f"POST servers: HTTP {status}: refused 3"]
    assert not result.ok


async def test_a_lost_answer_is_an_error_and_its_server_is_removed(lab: Lab) -> None:
    cloud = await lab.cloud(lose={2})
    result = await run_servers(lab.options(count=4))
    assert rows(result) == {"POST accepted": (3, 4), "create": (3, 4), "delete": (3, 3)}
    assert result.traffic.errors == {"POST servers: connection": 1}
    assert len(cloud.servers) == 4
    assert nothing_is_left(cloud)


async def test_an_answer_that_does_not_come_is_an_error_and_its_server_is_removed(lab: Lab) -> None:
    cloud = await lab.cloud(hang={1})
    result = await run_servers(lab.options(count=3, timeout_s=8))
    assert rows(result)["POST accepted"] == (2, 3)
    assert [fault.servers for fault in result.faults] == [1]
    assert nothing_is_left(cloud)


async def test_a_build_that_takes_too_long_is_a_failure(lab: Lab) -> None:
    cloud = await lab.cloud(build_s=math.inf)
    result = await run_servers(lab.options(count=2, timeout_s=4))
    assert rows(result)["create"] == (0, 2)
    assert [fault.text for fault in result.faults] == ["not done after 4 s"]
    assert nothing_is_left(cloud)


async def test_waiting_for_a_turn_is_not_part_of_the_time_limit(lab: Lab) -> None:
    await lab.cloud(build_s=0.8)
    result = await run_servers(lab.options(count=8, max_alive=1, concurrency=1, timeout_s=6.0))
    assert result.ok, result.faults
    first, last = result.servers[0], result.servers[-1]
    assert (last.active_at_s or 0.0) - (first.requested_at_s or 0.0) > 6.0, "else this proves nothing"


async def test_requests_in_flight_are_bounded(lab: Lab) -> None:
    cloud = await lab.cloud()
    result = await run_servers(lab.options(count=40, concurrency=4))
    assert result.ok
    assert 2 <= cloud.most_in_flight <= 4


async def test_servers_that_are_not_ready_are_bounded(lab: Lab) -> None:
    cloud = await lab.cloud(build_s=0.2)
    result = await run_servers(lab.options(count=9, max_alive=3))
    assert result.ok
    assert cloud.most_building <= 3


async def test_a_rate_is_kept_whatever_becomes_of_those_before(lab: Lab) -> None:
    await lab.cloud(together=10)
    result = await run_servers(lab.options(count=10, rate_per_s=50.0))
    assert result.ok, result.faults
    asked = [record.requested_at_s or 0.0 for record in result.servers]
    assert all(at_s >= index / 50.0 - 1e-6 for index, at_s in enumerate(asked))
    assert asked[-1] < min(record.active_at_s or 0.0 for record in result.servers)


async def test_rolling_servers_make_room_for_each_other(lab: Lab) -> None:
    cloud = await lab.cloud(error_every=4)
    result = await run_servers(lab.options(count=9, max_alive=3, rolling=True))
    assert rows(result)["delete"] == (9, 9)
    assert rows(result)["create"] == (7, 9)
    assert cloud.most_alive <= 3
    first, last = result.servers[0], result.servers[-1]
    assert (first.gone_at_s or 0) <= (last.requested_at_s or 0)
    assert nothing_is_left(cloud)


async def test_a_batch_is_one_request(lab: Lab) -> None:
    cloud = await lab.cloud(page=5)
    result = await run_servers(lab.options(count=12, batch=True))
    assert result.ok, result.faults
    assert cloud.calls["POST servers"] == 1
    assert cloud.bodies[0]["min_count"] == cloud.bodies[0]["max_count"] == 12
    assert len({record.id for record in result.servers}) == 12
    assert [record.name.rpartition("-")[2] for record in result.servers] == [str(number) for number in range(1, 13)]
    assert nothing_is_left(cloud)


async def test_a_refused_batch_fails_all(lab: Lab) -> None:
    await lab.cloud(refuse={1: 403})
    result = await run_servers(lab.options(count=3, batch=True))
    assert rows(result) == {"POST accepted": (0, 3), "create": (0, 3), "delete": (0, 0)}
    assert [fault.servers for fault in result.faults] == [3]


async def test_states_are_watched_with_few_requests_over_pages(lab: Lab) -> None:
    cloud = await lab.cloud(page=7, build_more_s=0.005)
    result = await run_servers(lab.options(count=60))
    assert result.ok
    assert result.polling.polls >= 2
    # Nine pages each, and the first of a run of polls is not among those that are told.
    assert cloud.calls["GET servers/detail"] <= 10 * (result.polling.polls + 2)


async def test_a_failed_poll_is_an_error_and_the_next_one_goes_on(lab: Lab) -> None:
    await lab.cloud(failing_polls=2, build_s=0.3)
    result = await run_servers(lab.options(count=3))
    assert rows(result)["create"] == (3, 3)
    assert result.traffic.errors == {"GET servers/detail: 503": 2}
    assert result.polling.aborted == 2
    assert not result.ok


async def test_what_cannot_be_removed_is_said(lab: Lab) -> None:
    cloud = await lab.cloud(immortal=1)
    observer = Recorder()
    result = await run_servers(lab.options(count=3, timeout_s=8), observer)
    (survivor,) = cloud.alive()
    assert [(left.kind, left.id) for left in result.leftovers] == [("server", survivor.id)]
    assert "it will not die" in result.leftovers[0].reason
    assert observer.leftovers == result.leftovers
    assert rows(result)["delete"] == (2, 3)
    assert result.servers[survivor_index(result, survivor.id)].delete_fault is not None


def survivor_index(result: ServersResult, server_id: str) -> int:
    return next(record.index for record in result.servers if record.id == server_id)


async def test_without_the_phase_delete_servers_are_removed_unmeasured(lab: Lab) -> None:
    cloud = await lab.cloud()
    result = await run_servers(lab.options(count=3, phases=(Phase.CREATE,)))
    assert rows(result) == {"POST accepted": (3, 3), "create": (3, 3)}
    assert all(record.gone_at_s is None for record in result.servers)
    assert nothing_is_left(cloud)


async def test_what_is_kept_is_listed(lab: Lab) -> None:
    cloud = await lab.cloud()
    result = await run_servers(lab.options(count=2, phases=(Phase.CREATE,), keep=True))
    assert sorted(result.kept) == sorted(f"server {server.id}" for server in cloud.alive())
    assert len(result.kept) == 2
    assert cloud.calls["DELETE servers"] == 0


async def test_a_key_pair_and_a_security_group_are_made_and_removed(lab: Lab) -> None:
    cloud = await lab.cloud()
    seen: list[object] = []
    made = Recorder()

    def says(text: str) -> None:
        seen.append((text, dict(cloud.keypairs), [dict(group) for group in cloud.groups.values()]))

    made.says = says  # type: ignore[method-assign]
    options = lab.options(count=1, key=True, phases=(Phase.CREATE, Phase.SSH), timeout_s=3, ssh_port=2222)
    await run_servers(options, made)
    (_, keypairs, (group,)) = next(entry for entry in seen if entry[0] == "creating")  # type: ignore[index, misc]
    ((name, public),) = keypairs.items()
    assert public.startswith("ssh-ed25519 ")
    assert {(r["ethertype"], r["protocol"], r.get("port_range_min")) for r in group["security_group_rules"]} == {
        ("IPv4", "icmp", None),
        ("IPv4", "tcp", 2222),
        ("IPv6", "ipv6-icmp", None),
        ("IPv6", "tcp", 2222),
    }
    assert cloud.bodies[0]["key_name"] == name
    assert cloud.bodies[0]["security_groups"] == [{"name": group["id"]}]
    assert nothing_is_left(cloud)


async def test_a_security_group_whose_answer_was_lost_is_removed_too(lab: Lab) -> None:
    cloud = await lab.cloud(lose_groups=True)
    with pytest.raises(Transient):
        await run_servers(lab.options(count=1, phases=(Phase.CREATE, Phase.SSH)))
    assert nothing_is_left(cloud)


async def test_addresses_given_twice_are_told(lab: Lab) -> None:
    await lab.cloud(addresses=["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    result = await run_servers(lab.options(count=4))
    assert result.shared_addresses == ["10.0.0.1"]
    assert not result.ok


async def test_a_cancelled_run_removes_everything(lab: Lab) -> None:
    cloud = await lab.cloud(build_s=math.inf, delete_s=0.2)
    task = asyncio.create_task(run_servers(lab.options(count=20, key=True, phases=(Phase.CREATE, Phase.SSH))))
    while len(cloud.alive()) < 20:
        await asyncio.sleep(0.02)
    assert cloud.keypairs
    assert cloud.groups
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_is_left(cloud)


async def test_a_cancelled_clean_up_goes_on_to_its_end(lab: Lab) -> None:
    cloud = await lab.cloud(delete_s=0.5)
    cleaning = asyncio.Event()
    observer = Recorder()

    def says(text: str) -> None:
        if text == "cleaning up":
            cleaning.set()

    observer.says = says  # type: ignore[method-assign]
    task = asyncio.create_task(run_servers(lab.options(count=3, key=True, phases=(Phase.CREATE,)), observer))
    await cleaning.wait()
    assert len(cloud.alive()) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_is_left(cloud)


async def test_an_application_credential_will_do(lab: Lab) -> None:
    cloud = await lab.cloud()
    assert (await run_servers(lab.options(count=1, cloud="robot"))).ok
    assert cloud.calls["POST tokens"] == 1


async def test_a_wrong_password_is_said(lab: Lab) -> None:
    cloud = await lab.cloud()
    (lab.directory / "clouds.yaml").write_text(clouds_yaml(cloud, password="wrong"))
    with pytest.raises(Unauthenticated):
        await run_servers(lab.options(count=1))


async def test_a_keystone_that_is_away_is_said(lab: Lab) -> None:
    cloud = await lab.cloud()
    (lab.directory / "clouds.yaml").write_text(clouds_yaml(cloud).replace(cloud.url, "http://127.0.0.1:1"))
    with pytest.raises(Transient):
        await run_servers(lab.options(count=1))


async def test_what_this_machine_lacks_is_said_before_anything_is_made(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloud = await lab.cloud()

    def no_socket(*_: object) -> None:
        raise PermissionError

    def few_files(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as without_icmp:
        without_icmp.setattr("muster.client.ping.socket.socket", no_socket)
        with pytest.raises(Forbidden, match="ping_group_range"):
            await run_servers(lab.options(count=1, phases=(Phase.CREATE, Phase.PING)))
    with monkeypatch.context() as without_ssh:
        without_ssh.setenv("PATH", str(tmp_path))
        with pytest.raises(NotFound, match="ssh"):
            await run_servers(lab.options(count=1, phases=(Phase.CREATE, Phase.SSH), login=True))
    with monkeypatch.context() as with_few_files:
        with_few_files.setattr("muster.client.open_files.resource.setrlimit", few_files)
        with pytest.raises(Invalid, match="open files"):
            ensure_open_files(10**9)
    assert cloud.calls == {}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"cloud": "nowhere"}, Invalid),
        ({"image": "windows"}, NotFound),
        ({"flavor": "m1.huge"}, NotFound),
        ({"network": "moon"}, NotFound),
    ],
)
async def test_unknown_names_change_nothing(lab: Lab, changes: dict[str, str], error: type[Exception]) -> None:
    cloud = await lab.cloud()
    with pytest.raises(error):
        await run_servers(lab.options(count=1, **changes))
    assert cloud.servers == {}


async def test_an_image_that_is_not_there_is_told_with_those_that_are(lab: Lab) -> None:
    """It said that there were none."""
    cloud = await lab.cloud()
    with pytest.raises(NotFound, match=r"no active image windows; there are: guest"):
        await run_servers(lab.options(count=1, image="windows"))
    assert cloud.servers == {}
