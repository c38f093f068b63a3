"""The Celery application. Tasks are leaves: explicit name, keyword-only ids, one domain call."""

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, task_prerun, worker_init
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# Celery would run every system check, which loads all pages into processes that answer none.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("counterfoil")
app.config_from_object("django.conf:settings", namespace="CELERY")
if os.environ.get("COUNTERFOIL_PROCESS") != "beat":  # it sends tasks by name, and needs neither them nor Stripe
    app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)  # workers take up the request id that came with the task


@worker_init.connect
@beat_init.connect
def check_settings(**kwargs: Any) -> None:
    """Wrong settings stop a worker or beat before it does anything."""
    from django.core.checks import Tags, run_checks  # inline: Django is not set up when this module is loaded

    mistakes = [str(found) for found in run_checks(tags=[Tags.compatibility, Tags.models]) if found.is_serious()]
    if mistakes:
        raise SystemExit("\n".join(mistakes))


@task_prerun.connect
def replace_broken_connections(sender: Any = None, **kwargs: Any) -> None:
    """A worker keeps its database connection from task to task (CELERY_DB_REUSE_MAX), as the web does between requests:
    a new one costs more than most tasks. What broke or grew old meanwhile is replaced first.
    """
    from django.db import close_old_connections  # inline: Django is not set up when this module is loaded

    if not getattr(getattr(sender, "request", None), "is_eager", False):  # else they are the caller's
        close_old_connections()


@worker_init.connect
def share_memory(**kwargs: Any) -> None:
    """What was loaded by now stays shared with the pool's processes: the collector no longer writes to it."""
    gc.collect()
    gc.freeze()
