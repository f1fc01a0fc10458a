"""The suite's own time-outs: whatever hangs ends, and so does what was started by it."""

import sys
from pathlib import Path

from tests.commands import finished

ROOT = Path(__file__).parents[2]
HANGING = """
import time
import pytest
from tests import conftest

conftest.CLEAN_UP_S = 2.0


@pytest.fixture
def first():
    yield
    print("the rest is cleaned up")


@pytest.fixture
def second(first):
    yield
    time.sleep(600)


@pytest.fixture
def third(second):
    yield
    time.sleep(600)


def test_that_fails(third):
    assert False
"""


async def test_what_hangs_while_it_cleans_up_after_a_failure_is_left(tmp_path: Path) -> None:
    """pytest-timeout's time ends with a test's failure: a hang from there on was one for ever."""
    (tmp_path / "test_hanging.py").write_text(HANGING)
    plain = ("-p", "no:cacheprovider", "-p", "tests.conftest", "-c", "/dev/null", "--rootdir", str(tmp_path))
    status, out, _ = await finished(sys.executable, "-m", "pytest", *plain, str(tmp_path), cwd=ROOT)
    assert status == 1
    assert "1 failed, 1 error" in out
    assert "the rest is cleaned up" in out
