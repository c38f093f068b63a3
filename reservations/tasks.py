"""Celery leaves of reservations."""

from celery import current_task, shared_task

from reservations import purge, sweeping


@shared_task(name="reservations.release_expired_holds")
def release_expired_holds() -> None:
    # Celery knows of no current task when the worker's fallback loop calls this function by itself.
    by = "beat" if current_task else "worker"
    sweeping.sweep_expired_holds(by=by, for_seconds=sweeping.TASK_SECONDS, in_turn=True)


@shared_task(name="reservations.purge_old_rows")
def purge_old_rows() -> None:
    purge.purge_old_rows(by="beat", for_seconds=purge.TASK_SECONDS)
