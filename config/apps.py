"""Registers the system checks and starts Sentry, when it is configured."""

from django.apps import AppConfig
from django.conf import settings


class ConfigConfig(AppConfig):
    name = "config"
    verbose_name = "Settings and mechanisms"

    def ready(self) -> None:
        from config import checks, sentry  # inline: both need loaded settings

        checks.register_all()
        if settings.SENTRY_DSN:
            sentry.start()
