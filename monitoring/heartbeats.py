"""Signs of life, as rows by the database's clock: they work without Redis, and anyone can read them."""

from datetime import timedelta

from django.db.models.functions import Now

from monitoring.models import Heartbeat

SILENT_AFTER = timedelta(seconds=60)


def beat(part: str) -> None:
    """`part` lives."""
    Heartbeat.objects.update_or_create(part=part, defaults={"at": Now()})


def is_fresh(part: str) -> bool:
    """Whether `part` gave a sign of life lately."""
    return Heartbeat.objects.filter(part=part, at__gt=Now() - SILENT_AFTER).exists()
