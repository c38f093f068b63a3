"""Registers the system checks and starts Sentry, when it is configured."""

from django.apps import AppConfig
from django.conf import settings
from django.contrib import admin


class ConfigConfig(AppConfig):
    name = "config"
    verbose_name = "Settings and mechanisms"

    def ready(self) -> None:
        from config import checks  # inline: needs loaded settings

        checks.register_all()
        if settings.PROCESS not in {"worker", "beat"}:  # they answer no pages: a fifth of their memory
            admin.autodiscover()
        if settings.SENTRY_DSN:
            from config import sentry  # inline: who does not use it need not load it

            sentry.start()
