"""What logs must not have."""

import io
from collections.abc import Iterator

import pytest
import structlog

from muster.base.log import configure, get_logger


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is written; how logs are written is as before afterwards."""
    before = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**before)


def _fails_with(password: str) -> None:
    raise ValueError(f"{len(password)} characters are too few")


@pytest.mark.parametrize("json", [False, True])
def test_a_traceback_has_no_values_of_variables(written: io.StringIO, json: bool) -> None:
    configure(json=json, stream=written)
    password = "".join(["hunt", "er2"])  # not in any line of this source as such
    try:
        _fails_with(password)
    except ValueError:
        get_logger(__name__).exception("did not work", action="test.failed")
    said = written.getvalue()
    assert "_fails_with" in said
    assert "7 characters are too few" in said
    assert "hunter2" not in said
