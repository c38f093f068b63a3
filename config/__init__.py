"""Settings and the mechanisms that every app shares. No models, no knowledge of tickets or money movements."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
