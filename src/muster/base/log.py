"""Structured logs: one line per event, with a stable `action` that scripts may rely on. Secrets never come here."""

import logging
import sys
from typing import TextIO, cast

from muster.base.imports import missing

# It would bring tracebacks in colours, which nobody is shown, and 7 MiB to each process.
with missing("rich"):
    import structlog
    from structlog.stdlib import BoundLogger

# What libraries' logs say from which level on. Errors of a connection are raised as well, and told by those who catch
# them; that a channel is closed since a call on it was given up (a warning) is told by who gave it up.
_LIBRARIES = {"aiormq.connection": logging.CRITICAL, "aiormq.channel": logging.ERROR}
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def configure(*, level: str = "INFO", json: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for the process. `json` writes one object per line, for machines."""
    for name, least in _LIBRARIES.items():
        logging.getLogger(name).setLevel(least)
    # Tracebacks without the values of variables, some of which are secrets.
    console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer() if json else console
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> BoundLogger:
    """A logger for one module."""
    return cast(BoundLogger, structlog.get_logger(module=name))
