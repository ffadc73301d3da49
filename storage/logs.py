"""Structured logs: one line an event, with the prediction, the attempt and the delivery where there is one."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(role: str, *, log_format: str = "console", level: str = "INFO") -> None:
    """Send structlog's and the standard library's records to stderr in one form.

    `role` (api, worker, courier) stands on every JSON line; `darkroom up` prefixes console lines with it.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if log_format == "json":
        shared.append(_add_role(role))
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    structlog.configure(
        # What the level leaves out is dropped before it costs anything.
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell of every request or job, on INFO; ours do that already.
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "procrastinate", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    # It tells of each attempt to reconnect, over two lines; the code that wanted the connection logs it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _add_role(role: str) -> structlog.typing.Processor:
    def add(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["role"] = role
        return event

    return add
