from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = "What must be true, and is it"

    def ready(self) -> None:
        from monitoring import fallback  # inline: connects a worker signal, which must happen once apps are loaded

        fallback.connect()
