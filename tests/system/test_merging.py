"""Real guests' equal pages are merged by the kernel when the host says so, and it stands as before afterwards."""

import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("libvirt")

from real_cloud import RealCloud, real_cloud
from tests.waiting import eventually

from muster.host.ksm import Knobs, KsmFiles
from muster.host.ksm_keeper import read_note

BEFORE = KsmFiles().knobs()

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BEFORE is None or BEFORE.run != 0, reason="the kernel has no KSM, or somebody uses it"),
]

READ_METRICS = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCloud]:
    with real_cloud(tmp_path_factory.mktemp("merging"), "--sim-hosts", "0", "--ksm", "on") as cloud:
        yield cloud


def saved_bytes(cloud: RealCloud) -> float:
    text = cloud.inside(sys.executable, "-c", READ_METRICS, f"{cloud.base_url}/metrics").stdout
    [line] = [line for line in text.splitlines() if line.startswith("muster_ksm_saved_bytes{")]
    return float(line.rsplit(" ", 1)[1])


def test_equal_pages_of_guests_are_merged_and_the_kernel_stands_as_before_at_the_end(cloud: RealCloud) -> None:
    eventually("KSM runs", lambda: (KsmFiles().knobs() or Knobs(0, 0, 0)).run == 1, 60)
    before = saved_bytes(cloud)
    for name in ("one", "other"):
        cloud.becomes(cloud.create_server(name), "ACTIVE")
    eventually("pages are merged", lambda: saved_bytes(cloud) > before + 2**20, 300, every_s=2)
    said = cloud.down()
    assert "what was set of KSM" in said
    assert KsmFiles().knobs() == BEFORE
    assert read_note() is None
