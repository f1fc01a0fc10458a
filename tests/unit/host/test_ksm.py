"""KSM is switched and tuned over made-up files of the kernel, and put back as it was."""

import errno
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from muster.host import ksm_keeper
from muster.host.ksm import Knobs, KsmFiles, KsmMode, KsmTuning, tuned
from muster.host.ksm_keeper import KsmKeeper, read_note, restore
from muster.host.memory import Memory

IDLE = Knobs(run=0, pages_to_scan=100, sleep_millisecs=20)
SCARCE, BETWEEN, PLENTY = 1_000, 2_500, 6_000  # MiB of 8,192


class Machine:
    """Made-up files; `keeper` makes an agent's keeper, whose cloud's folder is there."""

    def __init__(self, root: Path) -> None:
        self.root, self.runtime, self.proc = root, root / "run", root / "proc"
        self.files = KsmFiles(root / "ksm")
        (root / "ksm").mkdir()
        self.put(IDLE)
        self.available_mib = SCARCE
        self.run_process("bash")

    def put(self, knobs: Knobs) -> None:
        """Somebody else sets the knobs."""
        for name in Knobs.__struct_fields__:
            (self.root / "ksm" / name).write_text(f"{getattr(knobs, name)}\n")

    def run_process(self, name: str) -> None:
        folder = self.proc / str(len(list(self.proc.glob("*"))) + 1)
        folder.mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")

    def folder(self, name: str = "cloud") -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def keeper(self, mode: KsmMode = KsmMode.AUTO, name: str = "cloud") -> KsmKeeper:
        return KsmKeeper(self.folder(name), mode, self._memory, files=self.files, runtime=self.runtime, proc=self.proc)

    def _memory(self) -> Memory:
        return Memory(total_mib=8_192, available_mib=self.available_mib)

    def restore(self, name: str = "cloud") -> bool:
        return restore(self.folder(name), files=self.files, runtime=self.runtime)

    @property
    def run(self) -> int:
        knobs = self.files.knobs()
        assert knobs is not None
        return knobs.run


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("mode", "run", "pages", "available", "expected"),
    [
        (KsmMode.AUTO, 0, 100, PLENTY, (0, 64)),
        (KsmMode.AUTO, 0, 100, BETWEEN, (0, 64)),
        (KsmMode.AUTO, 0, 100, SCARCE, (1, 400)),
        (KsmMode.AUTO, 1, 400, BETWEEN, (1, 350)),
        (KsmMode.AUTO, 1, 400, PLENTY, (0, 350)),
        (KsmMode.AUTO, 1, 1_100, SCARCE, (1, 1_250)),
        (KsmMode.ON, 0, 100, PLENTY, (1, 64)),
        (KsmMode.ON, 1, 100, SCARCE, (1, 400)),
    ],
)
def test_it_runs_while_memory_is_scarce_and_works_harder_the_longer_it_is(
    mode: KsmMode, run: int, pages: int, available: int, expected: tuple[int, int]
) -> None:
    found = tuned(KsmTuning(), mode, Knobs(run, pages, 20), total_mib=8_192, available_mib=available)
    assert (found.run, found.pages_to_scan) == expected


@pytest.mark.parametrize(("gib", "pause"), [(4, 100), (16, 100), (64, 25), (1024, 10)])
def test_larger_hosts_pause_less(gib: int, pause: int) -> None:
    found = tuned(KsmTuning(), KsmMode.ON, IDLE, total_mib=gib * 1024, available_mib=1)
    assert found.sleep_millisecs == pause


def test_a_host_that_runs_short_gets_it_and_has_it_back_as_it_was(machine: Machine) -> None:
    keeper = machine.keeper()
    machine.available_mib = PLENTY
    keeper.look()
    assert (machine.files.knobs(), read_note(machine.runtime)) == (IDLE, None), "nothing to do, nothing touched"
    machine.available_mib = SCARCE
    keeper.look()
    keeper.look()
    assert machine.files.knobs() == Knobs(1, 700, 100)
    assert machine.restore()
    assert (machine.files.knobs(), read_note(machine.runtime)) == (IDLE, None)
    assert not machine.restore()


def test_a_look_after_which_nothing_changes_looks_at_no_process(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be thousands of them."""
    looked: list[str] = []
    monkeypatch.setattr(ksm_keeper, "_runs", lambda name, _proc: bool(looked.append(name)))
    keeper = machine.keeper()
    machine.available_mib = PLENTY
    keeper.look()
    assert looked == []
    machine.available_mib = SCARCE
    keeper.look()
    assert (machine.run, looked) == (1, ["ksmtuned"])


def test_another_agent_of_the_same_cloud_goes_on_and_knows_how_it_was(machine: Machine) -> None:
    machine.keeper().look()
    machine.keeper().look()
    assert machine.run == 1
    machine.keeper(KsmMode.OFF).look()
    assert machine.files.knobs() == IDLE, "switched off in the settings: it is put back"


@pytest.mark.parametrize("who", ["operator", "daemon", "advisor", "cloud"])
def test_what_somebody_else_manages_is_left_alone(machine: Machine, who: str) -> None:
    if who == "operator":
        machine.put(Knobs(1, 5_000, 7))
    elif who == "daemon":
        machine.run_process("ksmtuned")
    elif who == "advisor":
        (machine.root / "ksm" / "advisor_mode").write_text("none [scan-time]\n")
    else:
        machine.keeper(name="other").look()
    before = machine.files.knobs()
    for mode in KsmMode:
        machine.keeper(mode).look()
    assert machine.files.knobs() == before
    assert not machine.restore()
    assert machine.files.knobs() == before


@pytest.mark.parametrize("theirs", [Knobs(0, 100, 100), Knobs(1, 9_000, 100), Knobs(2, 400, 100)])
def test_whoever_changes_what_muster_has_set_has_it_from_then_on(machine: Machine, theirs: Knobs) -> None:
    machine.keeper().look()
    machine.keeper().look()
    machine.put(theirs)
    machine.keeper().look()
    machine.keeper(KsmMode.ON).look()
    assert machine.files.knobs() == theirs
    assert not machine.restore()
    assert machine.files.knobs() == theirs
    assert read_note(machine.runtime) is None


def test_ksmtuned_that_is_started_later_has_it_from_then_on(machine: Machine) -> None:
    machine.keeper().look()
    machine.run_process("ksmtuned")
    before = machine.files.knobs()
    machine.keeper().look()
    machine.keeper().look()
    assert machine.files.knobs() == before


class DiedError(BaseException):
    """No error that anybody handles."""


class DyingFiles(KsmFiles):
    """The agent dies when so many of the knobs have been set."""

    def __init__(self, folder: Path, written: int) -> None:
        super().__init__(folder)
        self.written = written

    def set(self, knobs: Knobs) -> None:
        now = self.knobs()
        assert now is not None
        names = Knobs.__struct_fields__[len(Knobs.__struct_fields__) - self.written :]
        super().set(msgspec.structs.replace(now, **{name: getattr(knobs, name) for name in names}))
        raise DiedError


@pytest.mark.parametrize("written", [0, 1, 2, 3])
@pytest.mark.parametrize("rounds", [0, 1])
def test_a_death_in_the_middle_of_setting_is_no_change_by_somebody_else(
    machine: Machine, written: int, rounds: int
) -> None:
    for _ in range(rounds):
        machine.keeper().look()
    whole, machine.files = machine.files, DyingFiles(machine.root / "ksm", written)
    with pytest.raises(DiedError):
        machine.keeper().look()
    machine.files = whole
    machine.keeper().look()
    assert machine.run == 1
    assert machine.restore()
    assert machine.files.knobs() == IDLE


def test_what_was_given_up_is_not_taken_back_when_it_happens_to_stand_as_muster_had_set_it(machine: Machine) -> None:
    machine.keeper().look()
    ours = machine.files.knobs()
    assert ours is not None
    machine.put(Knobs(1, 9_000, 9))
    machine.keeper().look()
    machine.put(ours)
    machine.keeper().look()
    assert machine.files.knobs() == ours
    assert not machine.restore()
    assert machine.files.knobs() == ours


def test_a_cloud_that_was_removed_without_a_word_is_inherited(machine: Machine) -> None:
    machine.keeper(name="other").look()
    machine.folder("other").rmdir()
    machine.keeper().look()
    assert machine.run == 1
    assert machine.restore()
    assert machine.files.knobs() == IDLE


def test_where_it_may_not_be_set_it_is_said_once_and_nothing_is_put_back(machine: Machine) -> None:
    class ReadOnlyFiles(KsmFiles):
        def set(self, knobs: Knobs) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

    machine.files = ReadOnlyFiles(machine.root / "ksm")
    keeper = machine.keeper(KsmMode.ON)
    with capture_logs() as logs:
        keeper.look()
        keeper.look()
    assert [(line["log_level"], "Read-only file system" in line["event"]) for line in logs] == [("warning", True)]
    machine.files = KsmFiles(machine.root / "ksm")
    machine.restore()
    assert machine.files.knobs() == IDLE


def test_a_kernel_without_it_is_no_error(tmp_path: Path) -> None:
    files = KsmFiles(tmp_path / "none")
    keeper = KsmKeeper(
        tmp_path, KsmMode.ON, lambda: Memory(total_mib=9, available_mib=1), files=files, runtime=tmp_path
    )
    keeper.look()
    assert (files.knobs(), files.savings(), read_note(tmp_path)) == (None, None, None)
    assert not restore(tmp_path, files=files, runtime=tmp_path)


def test_what_it_saves_is_in_the_metrics(machine: Machine) -> None:
    from prometheus_client import REGISTRY

    (machine.root / "ksm" / "pages_sharing").write_text("1000\n")
    (machine.root / "ksm" / "pages_shared").write_text("10\n")
    machine.keeper().measure("made-up")
    machine.put(Knobs(1, 100, 20))
    found = [
        REGISTRY.get_sample_value(name, {"host": "made-up"})
        for name in ("muster_ksm_running", "muster_ksm_saved_bytes", "muster_ksm_shared_bytes")
    ]
    assert found == [1, 4_096_000, 40_960]
