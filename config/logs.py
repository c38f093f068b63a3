"""Structured logs: JSON lines in production, readable ones in development.

Field names that others may rely on: `timestamp` (RFC 3339 UTC), `level`, `logger`, `event` (what happened, a fixed
phrase), `request_id` (the same from browser to web to worker), plus the ids of what it happened to (`order`,
`payment`, `webhook_event`). Never: e-mail addresses, names, secrets, card data, client secrets.
"""

import json
import logging
import re
import threading
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

# What opens something private: ticket and order secrets, Stripe's client secrets, and ids of reservations, of which
# the first part is left, so that lines about the same one can still be found.
_SECRETS = [
    (re.compile(r"(secret=)[^&\s'\"]+"), r"\1…"),
    (re.compile(r"(/tickets/)[^/\s'\"]+"), r"\1…"),
    (re.compile(r"(_secret_)\w+"), r"\1…"),
    (re.compile(r"(/reservations/[0-9a-f]{8})-[0-9a-f-]{27}"), r"\1…"),
    # Bounded repetitions: an unbounded pattern takes quadratic time on a long text, which anybody can send as a path.
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "…@…"),
]


LONGEST_TEXT = 16_384  # tracebacks fit; whatever a stranger sends does not fill the disk
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def hide_secrets(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Takes secrets and e-mail addresses out of every text of a log line, tracebacks included."""
    for key, value in line.items():
        if key in {"_record", "_from_structlog"} or isinstance(value, (int, float, bool, type(None))):
            continue
        line[key] = without_secrets(value if isinstance(value, str) else str(value))
    return line


def without_secrets(text: str) -> str:
    """`text` (at most LONGEST_TEXT characters of it) with secrets and e-mail addresses taken out."""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def write_line(logger: str, event: str, **fields: str | float) -> None:
    """An INFO line of plain fields that hold no secret, in a tenth of the time that the processors take.

    It goes to the root logger's own streams and looks like any other line.
    """
    root = logging.getLogger()
    if not root.isEnabledFor(logging.INFO):
        return
    line = {**fields, "event": event, "logger": logger, "level": "info"}
    line["timestamp"] = f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler):
            with handler.lock or threading.RLock():
                handler.stream.write(f"{json.dumps(line)}\n")
                handler.flush()


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def logging_config(*, level: str, readable: bool) -> dict[str, Any]:
    """The value of `settings.LOGGING`; also sets structlog up, so that both kinds of logger come out alike."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    hide_secrets,
                    renderer,
                ],
            }
        },
        "handlers": {"stream": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stream"], "level": level},
        "loggers": {
            # One line a request is enough: config.request_id writes it.
            "django": {"handlers": [], "propagate": True},
            "django.server": {"level": "ERROR"},
            "django.request": {"level": "ERROR"},
            "django_structlog.celery": {"level": "WARNING"},
            "stripe": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},  # "received"; "succeeded" says as much
            "celery.redirected": {"level": "WARNING"},
        },
    }
