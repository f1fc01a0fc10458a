"""`muster doctor`: exit statuses, JSON, table, --fix in a made-up root, and one look at the machine it runs on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from muster.cli.doctor import doctor
from muster.doctor.diagnosis import CHECKS
from muster.soak.versions import read_versions
from tests.unit.doctor.trees import COMPUTE, MUSTER_HOST, QUIET, written

SYSCTL = "etc/sysctl.d/90-muster.conf"
NEIGHBOURS = "proc/sys/net/ipv4/neigh/default/gc_thresh"


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(doctor, ["--root", str(root), *arguments])


@pytest.mark.parametrize(("tree", "status"), [(QUIET, 0), (MUSTER_HOST, 0), (COMPUTE, 1)])
def test_exit_status_says_whether_there_are_problems(tmp_path: Path, tree: dict[str, str], status: int) -> None:
    result = run(written(tmp_path, tree))
    assert result.exit_code == status, result.output


def test_what_is_no_host_cannot_be_looked_at(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "has no /proc" in result.stderr
    assert run(tmp_path / "absent").exit_code == 2
    assert run(written(tmp_path, QUIET), "--guests", "0").exit_code == 2


def test_of_a_copy_that_does_not_tell_its_memory_somebody_must_say_how_many_guests_are_planned(tmp_path: Path) -> None:
    root = written(tmp_path, {path: text for path, text in COMPUTE.items() if path != "/proc/meminfo"})
    result = run(root, "--json")
    assert result.exit_code == 2
    assert "--guests" in result.stderr
    assert json.loads(run(root, "--json", "--guests", "7").stdout)["guests"] == 7


def test_json_is_for_scripts(tmp_path: Path) -> None:
    result = run(written(tmp_path, COMPUTE), "--json", "--guests", "200")
    said = json.loads(result.stdout)
    assert said["guests"] == 200
    assert sum(said["counts"].values()) == len(said["findings"])
    assert {finding["check"] for finding in said["findings"]} == {check.id for check in CHECKS}
    assert said["findings"][0]["level"] == "problem"
    assert said["fixed"] == []
    assert said["versions"]["kernel"] == "5.15.131"
    assert said["host"] == ""


def test_json_tells_a_soak_what_runs_on_this_host(tmp_path: Path) -> None:
    tree = {**COMPUTE, "/proc/sys/kernel/hostname": "node7.example.org\n"}
    file = tmp_path / "node7.json"
    file.write_bytes(run(written(tmp_path / "root", tree), "--json").stdout_bytes)
    found = read_versions([str(file)])
    assert found["node7.example.org"]["kernel"] == "5.15.131"


def test_the_table_has_problems_first_and_the_good_on_request(tmp_path: Path) -> None:
    root = written(tmp_path, COMPUTE)
    lines = run(root).stdout.splitlines()
    levels = [word for line in lines for word in ("problem", "advice", "good") if line.startswith(f"  {word} ")]
    assert levels == sorted(levels, key=["problem", "advice", "good"].index)
    assert "problem" in levels
    assert "good" not in levels
    assert "cpu.pressure" not in run(root).stdout
    assert "cpu.pressure" in run(root, "--all").stdout


def test_fix_writes_applies_and_says_how_to_take_it_back(tmp_path: Path) -> None:
    root = written(tmp_path, COMPUTE)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    result = run(root, "--fix", "--yes", "--guests", "200")
    assert (root / f"{NEIGHBOURS}3").read_text() == "4096\n"
    assert (root / f"{NEIGHBOURS}1").read_text() == "1024\n"
    text = (root / SYSCTL).read_text()
    assert "net.ipv4.neigh.default.gc_thresh3 = 4096  # was 2048" in text
    assert (root / SYSCTL).stat().st_mode & 0o777 == 0o644
    assert f"rm /{SYSCTL}; " in result.stdout
    assert "sysctl -w net.ipv4.neigh.default.gc_thresh3=2048" in result.stdout
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    named = {root / "proc/sys" / line.split(" ")[0].replace(".", "/") for line in text.splitlines()[1:]}
    assert changed == named
    assert set(root.rglob("*")) - set(before) - {path.parent for path in before} >= {root / SYSCTL}
    assert "limits.conntrack" not in run(root, "--guests", "200").stdout


def test_a_second_fix_keeps_what_was_before_the_first(tmp_path: Path) -> None:
    root = written(tmp_path, COMPUTE)
    run(root, "--fix", "--yes", "--guests", "200")
    assert "nothing that --fix can set" in run(root, "--fix", "--yes", "--guests", "200").stdout
    run(root, "--fix", "--yes", "--guests", "4000")
    text = (root / SYSCTL).read_text()
    assert "net.ipv4.neigh.default.gc_thresh3 = 16384  # was 2048" in text
    assert "net.netfilter.nf_conntrack_max = " in text


def test_fix_asks_where_somebody_can_answer_and_changes_nothing_otherwise(tmp_path: Path) -> None:
    root = written(tmp_path, COMPUTE)
    result = run(root, "--fix")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert not (root / SYSCTL).exists()
    assert (root / f"{NEIGHBOURS}3").read_text() == "2048\n"


@pytest.mark.parametrize(("answer", "is_changed"), [("y\n", True), ("n\n", False), ("", False)])
def test_fix_does_what_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, is_changed: bool
) -> None:
    monkeypatch.setattr("muster.cli.doctor._can_ask", lambda: True)
    root = written(tmp_path, COMPUTE)
    result = CliRunner().invoke(doctor, ["--root", str(root), "--fix"], input=answer)
    assert "net.ipv4.neigh.default.gc_thresh3: 2048 -> 4096" in result.stderr
    assert "Traceback" not in result.output
    assert result.exit_code == 1
    assert (root / SYSCTL).exists() is is_changed
    assert (root / f"{NEIGHBOURS}3").read_text() == ("4096\n" if is_changed else "2048\n")


def test_fix_leaves_a_file_of_others_alone(tmp_path: Path) -> None:
    root = written(tmp_path, COMPUTE | {f"/{SYSCTL}": "vm.swappiness = 1\n"})
    result = run(root, "--fix", "--yes")
    assert result.exit_code == 2
    assert "move it away" in result.stderr
    assert (root / SYSCTL).read_text() == "vm.swappiness = 1\n"
    assert (root / f"{NEIGHBOURS}3").read_text() == "2048\n"


def test_fix_says_which_file_takes_it_back_at_boot(tmp_path: Path) -> None:
    later = "# x\nnet/ipv4/neigh/default/gc_thresh3 = 1024\nvm.swappiness = 1\n"
    root = written(tmp_path, COMPUTE | {"/etc/sysctl.d/99-kolla.conf": later, "/etc/sysctl.d/10-first.conf": later})
    said = run(root, "--fix", "--yes").stdout
    assert "/etc/sysctl.d/99-kolla.conf sets net.ipv4.neigh.default.gc_thresh3 as well" in said
    assert "10-first.conf" not in said
    assert "vm.swappiness" not in said


def test_fix_in_json_says_what_was_changed(tmp_path: Path) -> None:
    said = json.loads(run(written(tmp_path, COMPUTE), "--fix", "--yes", "--json").stdout)
    assert {"net.ipv4.neigh.default.gc_thresh3", "net.ipv4.tcp_keepalive_time"} <= {
        one["name"] for one in said["fixed"]
    }
    assert not [finding for finding in said["findings"] if finding["sysctls"]]


def test_this_machine() -> None:
    """Whatever it is: it is looked at, without a traceback, and nothing of it is changed."""
    done = subprocess.run(
        [sys.executable, "-m", "muster", "doctor", "--json"], capture_output=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1)
    assert done.stderr == b""
    said = json.loads(done.stdout)
    assert {finding["check"] for finding in said["findings"]} == {check.id for check in CHECKS}
    kernel = next(one for one in said["findings"] if one["check"] == "versions.known-bad")
    assert kernel["level"] != "not known"
