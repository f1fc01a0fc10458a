"""Ansible's collection `openstack.cloud`, unmodified, against `muster up` with simulated hosts."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cloud_process import CloudProcess, cloud_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
VENV = HERE.parents[2] / ".venv-ansible"
HOSTS = 20
COMMAND_TIMEOUT_S = 800


class Ansible:
    """Ansible's commands for one cloud; `folder` holds what playbooks read."""

    def __init__(self, cloud: CloudProcess, folder: Path) -> None:
        key, image = folder / "key", folder / "image"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
        image.write_bytes(os.urandom(64 * 1024))
        self._variables = {
            "key_file": f"{key}.pub",
            "image_file": str(image),
            "user_password": "a playbook's secret",
            "auth_url": f"{cloud.base_url}/identity/v3",
        }
        self._environment = {
            "PATH": f"{VENV}/bin:{os.environ['PATH']}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_PYTHON_INTERPRETER": str(VENV / "bin/python"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            **cloud.environment,
        }

    def play(self, name: str, **variables: Any) -> dict[str, int]:
        """Run a playbook, which must succeed; its recap: `ok`, `changed`, `failed` and so on."""
        said = self._run("ansible-playbook", "-i", "localhost,", "-e", json.dumps(self._variables | variables), name)
        recap = re.search(r"^localhost +: (.*)$", said, re.MULTILINE)
        assert recap is not None, said
        return {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", recap[1])}

    def inventory(self) -> dict[str, Any]:
        """The hosts that the cloud's servers are to Ansible."""
        return json.loads(self._run("ansible-inventory", "-i", "inventory.openstack.yml", "--list"))

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=HERE,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def ansible(tmp_path: Path) -> Iterator[Ansible]:
    if not (VENV / "bin/ansible-playbook").exists():
        pytest.fail("there is no Ansible: run scripts/ansible-venv")
    (tmp_path / "cloud").mkdir()
    with cloud_process(tmp_path / "cloud", HOSTS) as cloud:
        yield Ansible(cloud, tmp_path)


def test_a_project_with_servers_comes_is_used_and_goes(ansible: Ansible) -> None:
    assert ansible.play("present.yml")["changed"] > 20
    assert ansible.play("present.yml")["changed"] == 0
    assert ansible.play("use.yml")["failed"] == 0

    # Servers are listed newest first.
    inventory = ansible.inventory()
    assert inventory["flavor_ansible_tiny"]["hosts"] == ["ansible-server-2", "ansible-server"]
    assert inventory["role_web"]["hosts"] == ["ansible-server"]
    assert inventory["_meta"]["hostvars"]["ansible-server-2"]["ansible_host"]["__ansible_unsafe"] == "192.0.2.20"

    assert ansible.play("absent.yml")["changed"] > 10
    assert ansible.play("absent.yml", again=True)["changed"] == 0
    assert "hosts" not in ansible.inventory()["all"]
