"""For all tests."""

import gc
import signal
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from pytest_timeout import Settings

# How long an example takes is the machine's affair, not the test's. The same examples each time, so that what passed
# here passes there; `--hypothesis-profile=random` looks for others.
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("muster", settings.get_profile("random"), derandomize=True)
settings.load_profile("muster")

#: For each part of what cleans up after a test.
CLEAN_UP_S = 600.0


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The garbage collector leaves alone what has been collected and imported: thousands of tests, and all modules.

    It would go through them again and again: a fifth of the CPU time of tests in process.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Cleaning up has a time-out of its own: a test that failed has none any more, whether by its time-out or before.

    It comes again and again, so that whatever hangs is left for the rest.
    """
    own = Settings(CLEAN_UP_S, method="signal", func_only=False, disable_debugger_detection=False)
    item.config.hook.pytest_timeout_set_timer(item=item, settings=own)
    signal.setitimer(signal.ITIMER_REAL, CLEAN_UP_S, CLEAN_UP_S)
    try:
        return (yield)
    finally:
        item.config.hook.pytest_timeout_cancel_timer(item=item)


@pytest.fixture(autouse=True)
def _logs_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that was called in process has set up logging for the process, which here is that of all tests."""
    before, configure = structlog.get_config(), structlog.configure

    def uncached(**settings: object) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    configure(**before)
