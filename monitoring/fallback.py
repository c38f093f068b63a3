"""A dead broker or beat must not stop the sweeps: a thread in the worker process then runs them itself.

It needs PostgreSQL only. It stays quiet while beat's heartbeat is fresh (which proves schedule, broker and a worker at
once) and the broker can be reached. Sweeps are safe to run twice and at once, so nobody has to agree on who is in charge.
"""

import threading
from typing import Any

import structlog
from celery import current_app
from celery.signals import beat_init, worker_init, worker_shutting_down
from django.db import close_old_connections, connection

from config.beat import FALLBACK
from config.nudges import nudge
from monitoring import heartbeats

logger = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 1.5
_stop = threading.Event()
_sweeping: dict[str, threading.Thread] = {}


def connect() -> None:
    """Lets Celery workers start the loop, before they try to reach the broker for the first time."""
    worker_init.connect(_start, weak=False, dispatch_uid="monitoring.fallback.start")
    worker_shutting_down.connect(_end, weak=False, dispatch_uid="monitoring.fallback.end")
    beat_init.connect(_first_beat, weak=False, dispatch_uid="monitoring.fallback.first_beat")


def _start(**kwargs: Any) -> None:
    _stop.clear()
    threading.Thread(target=_loop, name="fallback", daemon=True).start()


def _end(**kwargs: Any) -> None:
    _stop.set()


def _first_beat(**kwargs: Any) -> None:
    """The schedule's own first heartbeat and sweep come a period after the start; these come at once, the same way."""
    nudge("monitoring.beat", queue="background")
    nudge("reservations.release_expired_holds", queue="background")


def _loop() -> None:
    was_needed = False
    while not _stop.wait(LOOK_EVERY_SECONDS):
        close_old_connections()
        try:
            why = why_needed()
            if bool(why) != was_needed:
                logger.warning("fallback sweeps" if why else "fallback rests", why=why)
            was_needed = bool(why)
            if why:
                _start_sweeps()
        except Exception:  # the database may be away too; the loop must outlive that
            logger.exception("fallback loop failed once")
            connection.close()


def _start_sweeps() -> None:
    """Each sweep in a thread of its own, unless its last one is still at it."""
    for name in FALLBACK:
        if (busy := _sweeping.get(name)) is None or not busy.is_alive():
            _sweeping[name] = threading.Thread(target=_sweep_and_hang_up, args=(name,), name=name, daemon=True)
            _sweeping[name].start()


def _sweep_and_hang_up(name: str) -> None:
    try:
        sweep(name)
    finally:
        connection.close()


def why_needed() -> str:
    """In words, why the normal way is not working; empty when it is."""
    if not broker_answers():
        return "broker unreachable"
    return "" if heartbeats.is_fresh("beat") else "beat silent"


def broker_answers() -> bool:
    """Whether Redis takes a connection within a second."""
    try:
        with current_app.connection_for_write(connect_timeout=1) as broker:
            broker.ensure_connection(max_retries=0, timeout=1)
    except Exception:  # any transport's error type
        return False
    return True


def run_sweeps() -> None:
    """Every sweep once, in this thread, one after the other."""
    for name in FALLBACK:
        sweep(name)


def sweep(name: str) -> None:
    """One sweep by its task's name; a failure is logged, and the next look tries again."""
    try:
        current_app.tasks[name].run()
    except Exception:
        logger.exception("fallback sweep failed", task=name)
