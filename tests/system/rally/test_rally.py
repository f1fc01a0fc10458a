"""Rally, unmodified, against `muster up` with simulated hosts: each iteration of each scenario succeeds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from tests.cloud_process import CloudProcess, cloud_process

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RALLY = ROOT / ".venv-rally/bin/rally"
REPORT = ROOT / "var/rally/report.md"
HOSTS = 8
TASK_TIMEOUT_S = 3_000

# openstacksdk warns of what it does itself.
SDK = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
pytestmark = [pytest.mark.system, pytest.mark.timeout(TASK_TIMEOUT_S + 300), SDK]


class Rally:
    """Rally's command for one cloud, with its database in `folder`."""

    def __init__(self, access: dict[str, Any], folder: Path) -> None:
        self._folder = folder
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        (folder / "rally.conf").write_text(f"[database]\nconnection = sqlite:///{folder}/rally.sqlite\n")
        names = {
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "project_name": access["project_name"],
        }
        admin = {"username": access["username"], "password": access["password"], **names}
        spec = folder / "spec.json"
        spec.touch(mode=0o600)
        spec.write_text(json.dumps({"openstack": {"auth_url": access["auth_url"], "admin": admin}}))
        self._run("db", "create")
        self._run("env", "create", "--name", "muster", "--spec", str(spec))
        self._run("env", "check")

    def workloads(self, task: Path) -> Iterator[dict[str, Any]]:
        """Run a task; what Rally tells of each of its workloads, whether they passed or not."""
        self._run("task", "start", "--task", str(task), check=False)
        result = self._folder / "result.json"
        self._run("task", "report", "--json", "--out", str(result))
        [told] = json.loads(result.read_text())["tasks"]
        for subtask in told["subtasks"]:
            yield from subtask["workloads"]

    def _run(self, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [RALLY, "--config-file", "rally.conf", *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TASK_TIMEOUT_S,
            check=False,
        )
        (self._folder / f"{arguments[0]}-{arguments[1]}.log").write_text(done.stdout + done.stderr)
        if check and done.returncode:
            # `env create` shows the password.
            pytest.fail(f"rally {arguments[0]} {arguments[1]}: {re.sub(r'password.*', '', done.stderr[-2000:])}")


def _wrong(workload: dict[str, Any]) -> list[str]:
    """What went wrong in a workload: iterations, limits, what it makes before and removes afterwards."""
    [name] = workload["scenario"]
    wrong = [f"{name}: {one['error'][-1][-800:]}" for one in workload["data"] if one["error"]]
    for context in workload["contexts_results"]:
        for phase in ("setup", "cleanup"):
            if context[phase]["error"] is not None:
                wrong.append(f"{name}: {context['plugin_name']} {phase}: {context[phase]['error']}")
    wanted = workload["runner"]["constant"]["times"]
    if workload["total_iteration_count"] != wanted or not workload["pass_sla"]:
        wrong.append(
            f"{name}: {workload['total_iteration_count']} of {wanted} iterations, limits: {workload['pass_sla']}"
        )
    return wrong


def _line(workload: dict[str, Any]) -> str:
    [name] = workload["scenario"]
    runner, total = workload["runner"]["constant"], workload["statistics"]["durations"]["total"]["data"]
    figures = (
        runner["times"],
        runner["concurrency"],
        workload["failed_iteration_count"],
        total["median"],
        total["95%ile"],
    )
    return f"| `{name}` | " + " | ".join(str(one) for one in figures) + " |"


def _left(cloud: CloudProcess) -> list[str]:
    """What Rally has not removed."""
    region = OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster")
    with Connection(config=region) as connection:
        left = [f"server {server.name}" for server in connection.compute.servers(all_projects=True)]
        left += [f"network {network.name}" for network in connection.network.networks() if network.name != "default"]
        left += [f"project {one.name}" for one in connection.identity.projects() if "rally" in one.name]
        left += [f"user {one.name}" for one in connection.identity.users() if "rally" in one.name]
    return left


def test_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not RALLY.exists():
        pytest.fail("there is no Rally: run scripts/rally-venv")
    with cloud_process(tmp_path, HOSTS) as cloud:
        access = OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster").config["auth"]
        (tmp_path / "rally").mkdir()
        workloads = list(Rally(access, tmp_path / "rally").workloads(HERE / "task.json"))
        left, said = _left(cloud), cloud.log()
    head = "| scenario | iterations | at a time | failed | median s | 95 % s |\n|---|---|---|---|---|---|\n"
    text = head + "\n".join(_line(workload) for workload in workloads) + "\n"
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(text)
    with capsys.disabled():
        sys.stdout.write("\n" + text)

    wanted = [
        one for subtask in json.loads((HERE / "task.json").read_text())["subtasks"] for one in subtask["workloads"]
    ]
    assert [workload["scenario"].keys() for workload in workloads] == [one["scenario"].keys() for one in wanted]
    assert [fault for workload in workloads for fault in _wrong(workload)] == []
    assert left == []
    assert "Traceback" not in said
