"""What logs must not have."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiormq import Channel

from muster.base.log import configure, get_logger

LIBRARIES = ("aiormq.connection", "aiormq.channel")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is written; how logs are written is as before afterwards."""
    before = structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    yield io.StringIO()
    structlog.configure(**before)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


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


def test_a_call_to_rabbitmq_that_was_given_up_is_not_told_by_the_library_as_well(
    written: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load a broker is slow with some calls; whoever gave one up says so in one line, with an action."""
    configure(stream=written)
    library = logging.getLogger(Channel.__module__)
    library.warning("Closing channel %r because RPC call %s cancelled", 1, 2)
    assert caplog.records == []
    library.error("Consumer callback failed")  # nobody else says that
    assert [record.message for record in caplog.records] == ["Consumer callback failed"]
