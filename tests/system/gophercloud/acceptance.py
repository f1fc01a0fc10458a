"""gophercloud's acceptance tests: what they are told of a cloud, which there are, and what came of them."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection
from tests.cloud_process import CloudProcess
from tests.system.gophercloud.go import ACCEPTANCE, go
from tests.system.tempest.judgement import FAILED, PASSED, SKIPPED, Result

PACKAGES = ("", "/identity/v3", "/compute/v2", "/imageservice/v2", "/networking/v2/...")
RUN_TIMEOUT_S = 2_400
_STATUSES = {"pass": PASSED, "skip": SKIPPED, "fail": FAILED}
_MEMBER = "gophercloud"
_OF_A_LINE = re.compile(r"^\s+\w+\.go:\d+: |\x1b\[[\d;]*m", re.MULTILINE)


def prepared(cloud: CloudProcess) -> tuple[dict[str, str], dict[str, str]]:
    """Make in the cloud what the tests want to find there; their environments as the administrator and as a user."""
    region = OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster")
    access = region.config["auth"]
    with Connection(config=region) as connection:
        image = next(connection.image.images(name="guest"))
        network = next(connection.network.networks(name="default"))
        outside = connection.network.create_network(name="outside", is_router_external=True)
        project = connection.identity.create_project(name=_MEMBER, domain_id="default")
        user = connection.identity.create_user(name=_MEMBER, password=_MEMBER, domain_id="default")
        role = connection.identity.find_role("member")
        connection.identity.assign_project_role_to_user(project, user, role)
    common = {
        "OS_AUTH_URL": access["auth_url"],
        "OS_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
        "OS_IMAGE_ID": image.id,
        "OS_FLAVOR_ID": "1",
        "OS_FLAVOR_ID_RESIZE": "2",
        "OS_NETWORK_NAME": network.name,
        "OS_NETWORK_ID": network.id,
        "OS_SUBNET_ID": network.subnet_ids[0],
        "OS_EXTGW_ID": outside.id,
        "OS_POOL_NAME": outside.name,
    }
    admin = {
        "OS_USERNAME": access["username"],
        "OS_PASSWORD": access["password"],
        "OS_PROJECT_NAME": access["project_name"],
    }
    member = dict.fromkeys(("OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"), _MEMBER)
    return common | admin, common | member


def names(folder: Path) -> list[str]:
    """All tests there are, as `compute/v2.TestServersUpdate`."""
    listed = go([*_command(PACKAGES), "-list", "^Test"], {}, folder, RUN_TIMEOUT_S)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    found: list[str] = []
    of_package: list[str] = []
    for line in listed.stdout.splitlines():
        if line.startswith("Test"):
            of_package.append(line)
        elif line.startswith("ok"):
            found += [_name(line.split()[1], test) for test in of_package]
            of_package = []
    return found


def results(
    environment: dict[str, str], folder: Path, packages: Iterable[str] = PACKAGES, selection: str = "."
) -> list[Result]:
    """Run tests one after the other; what came of each, whether it passed or not."""
    done = go([*_command(packages), "-json", "-count", "1", "-run", selection], environment, folder, RUN_TIMEOUT_S)
    (folder / "run.json").write_text(done.stdout)
    (folder / "run.log").write_text(done.stderr)
    return list(told(done.stdout.splitlines()))


def _command(packages: Iterable[str]) -> list[str]:
    limits = ["-p", "1", "-timeout", f"{RUN_TIMEOUT_S}s"]
    return ["go", "test", "-tags", "acceptance", "-vet", "off", *limits, *(ACCEPTANCE + one for one in packages)]


def told(lines: Iterable[str]) -> Iterator[Result]:
    """The results in what `go test -json` writes."""
    said: defaultdict[str, str] = defaultdict(str)
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        if "Test" not in event:
            continue
        name = _name(event["Package"], event["Test"])
        if event["Action"] == "output":
            said[name] += event["Output"]
        elif status := _STATUSES.get(event["Action"]):
            yield Result(name, status, _why(said[name]), event.get("Elapsed", 0.0))


def _name(package: str, test: str) -> str:
    return f"{package.removeprefix(ACCEPTANCE).strip('/') or 'client'}.{test}"


def _why(said: str) -> str:
    """What a test said, without the lines that Go itself writes and without colours."""
    lines = [line for line in said.splitlines() if not line.lstrip().startswith(("===", "---"))]
    return _OF_A_LINE.sub("", "\n".join(lines)).strip()
