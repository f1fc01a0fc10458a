"""What a lab stands on, with trivial commands in place of engines: namespaces, cables, processes and accounts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.base.errors import Conflict, Transient
from muster.lab import network, processes
from muster.lab.engines import postgresql
from muster.lab.plan import LabSettings, Plan, make_plan
from muster.lab.processes import Account, Launch, Process
from muster.lab.subnets import free_subnet, lab_id
from muster.lab.takedown import take_down

pytestmark = [pytest.mark.system, pytest.mark.root]

PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
END_S = 300.0


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """The network of a lab without anything in it."""
    name = lab_id(tmp_path)
    made = make_plan(name, free_subnet(name, network.taken_networks()), LabSettings(sim_hosts=0))
    try:
        network.build(made)
        yield made
    finally:
        take_down(tmp_path, PATH)


def sleeping(tmp_path: Path, *, log: str = "log") -> Launch:
    return Launch(command=["sleep", "1000"], log=tmp_path / log, environment=PATH)


def inside(plan: Plan, part: str) -> list[Process]:
    number = processes.number_of(Path("/run/netns") / network.namespace(plan.lab_id, part))
    assert number is not None
    return processes.found([number])[number]


def reaches(address: str) -> bool:
    done = subprocess.run(["ping", "-c", "1", "-W", "1", address], check=False, capture_output=True, timeout=120)
    return done.returncode == 0


def eventually_reaches(address: str) -> bool:
    deadline = time.monotonic() + END_S
    while not reaches(address):
        if time.monotonic() > deadline:
            return False
    return True


def test_a_part_is_reached_until_its_cable_is_pulled(plan: Plan) -> None:
    postgresql_, etcd = plan.parts[:2]
    assert eventually_reaches(postgresql_.address)
    assert network.joined(plan.lab_id) >= {part.name for part in plan.parts}
    network.cut(plan.lab_id, postgresql_.name)
    assert not reaches(postgresql_.address)
    assert eventually_reaches(etcd.address), "only the one that was cut off"
    assert postgresql_.name not in network.joined(plan.lab_id)
    network.join(plan.lab_id, postgresql_.name)
    assert eventually_reaches(postgresql_.address)


def test_a_slow_cable_lets_little_through(plan: Plan) -> None:
    part = plan.parts[0]
    assert eventually_reaches(part.address)

    def seconds() -> float:
        """There and back, by ping's own clock: on a busy machine its start may take longer."""
        ping = ["ping", "-q", "-c", "1", "-s", "9000", "-W", "60", part.address]
        said = subprocess.run(ping, check=True, capture_output=True, text=True, timeout=300).stdout
        return float(said.rpartition(" = ")[2].split("/")[0]) / 1_000

    network.slow(plan.lab_id, part.name, 100)  # 9,000 bytes are 0.7 s each way, less 4 KiB that go at once
    assert seconds() > 0.5
    network.slow(plan.lab_id, part.name, None)
    network.slow(plan.lab_id, part.name, None)
    assert min(seconds() for _ in range(5)) < 0.5


def test_processes_are_found_by_where_they_are(plan: Plan, tmp_path: Path) -> None:
    space = network.namespace(plan.lab_id, "etcd-1")
    processes.start(space, sleeping(tmp_path))
    [found] = inside(plan, "etcd-1")
    deadline = time.monotonic() + END_S
    while processes.arguments(found)[:2] != ["sleep", "1000"]:  # it becomes that within its namespace
        assert time.monotonic() < deadline
    assert found.parent != os.getpid(), "it must outlive who started it"
    assert inside(plan, "etcd-2") == []
    processes.send([found], signal.SIGSTOP)
    while not inside(plan, "etcd-1")[0].is_paused:
        assert time.monotonic() < deadline
    processes.send([found], signal.SIGKILL)
    assert processes.await_end([found], END_S)
    assert inside(plan, "etcd-1") == []


def test_a_number_that_another_process_has_by_now_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    processes.start(network.namespace(plan.lab_id, "etcd-1"), sleeping(tmp_path))
    [found] = inside(plan, "etcd-1")
    for field, value in (("started", found.started - 1), ("namespace", found.namespace + 1)):
        earlier = Process(**{name: getattr(found, name) for name in found.__struct_fields__} | {field: value})
        assert processes.send([earlier], signal.SIGKILL) == []
    [still] = inside(plan, "etcd-1")
    assert (still.pid, still.started) == (found.pid, found.started)


def test_a_command_that_cannot_be_run(plan: Plan, tmp_path: Path) -> None:
    space = network.namespace(plan.lab_id, "etcd-1")
    with pytest.raises(Transient, match="failed"):
        processes.run(space, Launch(command=["false"], log=tmp_path / "log", environment=PATH))


def test_another_account_finds_its_files_at_home_however_private_the_folders_above(plan: Plan, tmp_path: Path) -> None:
    private = tmp_path / "private"
    folder = private / "postgresql"
    folder.mkdir(parents=True, mode=0o700)
    private.chmod(0o700)
    (folder / "here").write_text("yes")
    entry = Path("~postgres").expanduser()
    for path in (folder, folder / "here"):
        os.chown(path, entry.stat().st_uid, entry.stat().st_gid)
    account = Account(postgresql.ACCOUNT, entry, folder)
    asks = "id -un; id -Gn; cat ~/here; echo; uname -n"
    launch = Launch(
        command=["sh", "-c", asks],
        log=tmp_path / "log",
        environment=PATH | {"HOME": str(entry)},
        account=account,
        hostname="elsewhere",
    )
    said = processes.run(network.namespace(plan.lab_id, "postgresql"), launch)
    assert said.split() == ["postgres", "postgres", "yes", "elsewhere"]
    assert not (entry / "here").exists(), "only for that process"
    assert os.uname().nodename != "elsewhere"


def test_the_network_is_made_once(plan: Plan) -> None:
    with pytest.raises(Conflict):
        network.build(plan)


def test_a_subnet_that_somebody_else_has_taken_meanwhile(tmp_path: Path) -> None:
    name = lab_id(tmp_path)
    plan = make_plan(name, free_subnet(name, network.taken_networks()), LabSettings(sim_hosts=0))
    other = ["ip", "link", "add", f"mlab-{name}", "type", "bridge"]
    subprocess.run(other, check=True, timeout=120)
    try:
        subprocess.run(["ip", "addr", "add", f"{plan.parts[0].address}/24", "dev", f"mlab-{name}"], check=True)
        with pytest.raises(Conflict, match="meanwhile"):
            network.build(plan)
    finally:
        subprocess.run(["ip", "link", "del", f"mlab-{name}"], check=False)
        take_down(tmp_path, PATH)
    assert network.namespaces(name) == {}


def test_down_ends_everything_and_once_more_finds_nothing(plan: Plan, tmp_path: Path) -> None:
    ignores = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"]
    space = network.namespace(plan.lab_id, "rabbitmq")
    processes.start(space, Launch(command=ignores, log=tmp_path / "log", environment=PATH))
    processes.start(space, sleeping(tmp_path))
    started = inside(plan, "rabbitmq")
    processes.send(started[1:], signal.SIGSTOP)
    removed = take_down(tmp_path, PATH)
    assert removed.processes == 2
    assert processes.await_end(started, 0)
    assert removed.namespaces == len(plan.parts) + 1
    assert removed.links == 1
    assert network.namespaces(plan.lab_id) == {}
    assert not Path("/sys/class/net", network.link_name(plan.lab_id)).exists()
    again = take_down(tmp_path, PATH)
    assert (again.processes, again.namespaces, again.links, again.files) == (0, 0, 0, False)
