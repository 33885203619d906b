"""How server and workers log: one line per event on stderr, as text or JSON, without secrets.

The program logs through the standard library; what a line is about travels as ``extra``, and the request id as context.
"""

import logging
import re
import sys

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import Processor

from packshot.settings import Settings

LOGGERS = ("packshot", "uvicorn")
_SECRETS = re.compile(r"(?i)\b(pks_|whsec_|bearer +)[A-Za-z0-9_\-+/=.~]+")

about_request = bound_contextvars
"""A context in which every log line carries the given values."""


class _Stderr(logging.Handler):
    """Writes to what is stderr when a line is written."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")  # at once: several processes may share it
            sys.stderr.flush()
        except OSError:  # nobody reads it any more
            self.handleError(record)


class _WithoutSecrets(ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.sub(lambda found: f"{found[1]}…", super().format(record))


def configure_logs(settings: Settings) -> None:
    """Let the program log as the settings say, instead of however it did before."""
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last += [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    handler = _Stderr()
    handler.setFormatter(_WithoutSecrets(foreign_pre_chain=shared, processors=last))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
