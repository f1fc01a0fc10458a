"""What Terraform's OpenStack provider asks of a cloud, by the library that it is written on (`terraform/main.go`)."""

import subprocess
from pathlib import Path

import pytest
import yaml
from openstack.config import OpenStackConfig
from openstack.connection import Connection
from tests.cloud_process import CloudProcess, cloud_process
from tests.system.gophercloud.go import go

PROGRAM = Path(__file__).parent / "terraform"
BUILD_TIMEOUT_S = 600
RUN_TIMEOUT_S = 600

# openstacksdk warns of what it does itself.
SDK = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_TIMEOUT_S + 2 * RUN_TIMEOUT_S + 300), SDK]


def test_apply_plan_change_and_destroy(tmp_path: Path) -> None:
    program = tmp_path / "terraform"
    _succeeds(["gofmt", "-l", "."], {}, expect="")
    _succeeds(["go", "vet", "."], {})
    _succeeds(["go", "build", "-o", str(program), "."], {})
    with cloud_process(tmp_path, 4, "--sim-boot-s", "1") as cloud:
        configured = {"IMAGE": "guest", "FLAVOR": "m1.tiny", "OS_CLOUD": "muster"}
        admin = configured | {"OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml), "ADMIN": "yes"}
        member = configured | {"OS_CLIENT_CONFIG_FILE": str(_of_a_member(cloud, tmp_path))}
        for environment in (admin, member):
            said = _succeeds([str(program)], environment).splitlines()
            assert said.count("no changes") == 2, said
            assert {"created tf-server", "changed tf-server", "destroyed tf-server"} <= set(said)
        assert "Traceback" not in cloud.log()


def _of_a_member(cloud: CloudProcess, folder: Path) -> Path:
    """A `clouds.yaml` with an application credential of a new project's user, as Terraform's users have it."""
    region = OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster")
    auth_url = region.config["auth"]["auth_url"]
    names = {"project_name": "terraform", "user_domain_id": "default", "project_domain_id": "default"}
    with Connection(config=region) as admin:
        project = admin.identity.create_project(name="terraform", domain_id="default")
        user = admin.identity.create_user(name="terraform", password="secret", domain_id="default")
        admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role("member"))
        with Connection(auth_url=auth_url, username="terraform", password="secret", **names) as member:
            credential = member.identity.create_application_credential(user, "terraform")
    access = {
        "auth_url": auth_url,
        "application_credential_id": credential.id,
        "application_credential_secret": credential.secret,
    }
    written = {"auth_type": "v3applicationcredential", "auth": access, "region_name": "RegionOne"}
    path = folder / "member.yaml"
    path.write_text(yaml.safe_dump({"clouds": {"muster": written}}))
    return path


def _succeeds(command: list[str], environment: dict[str, str], expect: str | None = None) -> str:
    """What a command says that must succeed, and say just `expect` if that is given."""
    done: subprocess.CompletedProcess[str] = go(command, environment, PROGRAM, BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr[-4_000:]
    assert expect is None or done.stdout == expect, done.stdout
    return done.stdout
