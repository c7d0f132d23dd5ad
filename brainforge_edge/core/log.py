"""structlog's door. Events are verbs in lower case with fields; never samples, never secrets."""

import logging
import sys
from typing import Any

import structlog


def configure(process: str, *, level: str = "info", as_json: bool = True) -> None:
    """Send log lines to stderr (the journal under systemd), stamped with the process's name."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)


def get(**fields: object) -> Any:
    """A logger that carries `fields`."""
    return structlog.get_logger(**fields)
