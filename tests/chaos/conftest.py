"""One lab for all scenarios, made anew when one has left it broken; a table of what came of each."""

import asyncio
import os
import resource
from collections.abc import Iterator

import pytest
import yaml

from muster.lab.build import lab_running
from muster.lab.cluster import Lab
from muster.lab.parts.control import api_url
from muster.lab.plan import Kind, LabSettings
from tests.audit import http
from tests.chaos.report import Report
from tests.chaos.sizes import Sizes, sizes
from tests.chaos.user import User

_FILES = 8192
#: Thousands of requests wait in line, and a failure of half a minute before them.
_ANSWER_S = 600.0


@pytest.fixture(scope="session")
def size() -> Sizes:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard), hard))  # a connection per request
    http.ANSWER_S = _ANSWER_S
    return sizes()


@pytest.fixture(scope="session")
def report(size: Sizes) -> Report:
    return Report(size)


@pytest.fixture(scope="module")
def lab(size: Sizes) -> Iterator[Lab]:
    settings = LabSettings(
        workers=size.workers,
        machines=min(size.machines, size.workers),
        own_images=True,
        sim_hosts=size.hosts,
        sim_processes=size.host_processes,
        lock_lease_s=size.lease_s,
    )
    with lab_running(settings, dict(os.environ)) as running:
        yield running


@pytest.fixture(scope="module")
def user(lab: Lab) -> User:
    auth = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]["muster"]["auth"]
    made = User([api_url(part) for part in lab.site.plan.of(Kind.CONTROL)], auth["password"])
    asyncio.run(made.prepare())
    return made
