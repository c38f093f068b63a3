"""How domain code asks a worker to hurry: by task name, after commit, and without caring whether anyone hears.

The row is the job (docs/decisions/0003): whatever a nudge announces is also a committed row that a sweep will find.
"""

from functools import partial

import structlog
from django.db import transaction

from config.celery import app

logger = structlog.get_logger(__name__)


def nudge(task: str, *, queue: str, **ids: int | str) -> None:
    """Sends `task` with `ids` once the current transaction has committed; a dead broker costs milliseconds, no error."""
    transaction.on_commit(partial(_send, task, queue, ids), robust=True)


def _send(task: str, queue: str, ids: dict[str, int | str]) -> None:
    try:
        app.send_task(task, kwargs=ids, queue=queue, retry=False)
    except Exception as error:  # any transport's error type: the sweep will do the work
        logger.warning("nudge not sent", task=task, error=type(error).__name__, **ids)
