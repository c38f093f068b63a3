"""Old payloads go, their events stay."""

import itertools
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from payments import inbox, purge, tasks
from payments.models import WebhookEvent
from tests.payments.posting import made_up

pytestmark = [pytest.mark.django_db, pytest.mark.row("H8")]

_numbers = itertools.count()


def event(status: str, *, days: int) -> WebhookEvent:
    """Stored as Stripe sent it, dealt with so many days ago."""
    sent = made_up(id=f"evt_{next(_numbers)}", type="invoice.paid")
    inbox.store(sent)
    at = Now() - timedelta(days=days)
    WebhookEvent.objects.filter(stripe_id=sent["id"]).update(status=status, received_at=at, processed_at=at)
    return WebhookEvent.objects.get(stripe_id=sent["id"])


def test_payloads_of_events_dealt_with_long_ago_are_emptied_and_the_others_kept(monkeypatch):
    monkeypatch.setattr(purge, "BATCH", 2)
    old = [event("PROCESSED", days=91) for _ in range(3)] + [event("IGNORED", days=91)]
    kept = [event("PROCESSED", days=89), *(event(status, days=400) for status in ("RECEIVED", "PARKED", "DEAD"))]
    assert purge.empty_old_payloads(for_seconds=0) == 2
    tasks.empty_old_payloads()
    assert purge.empty_old_payloads() == 0
    assert [WebhookEvent.objects.get(pk=row.pk).payload for row in old] == [{}] * 4
    assert all(WebhookEvent.objects.get(pk=row.pk).payload["id"] == row.stripe_id for row in kept)


def test_an_event_whose_payload_is_gone_is_still_known():
    """Stripe's dashboard can send an old one again: nothing happens twice."""
    old = event("PROCESSED", days=91)
    purge.empty_old_payloads()
    assert inbox.store(made_up(id=old.stripe_id, type="invoice.paid")) is False
    assert WebhookEvent.objects.get().payload == {}


def test_the_question_is_answered_by_its_index():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = purge._old().values("pk")[:10].explain()
    assert "webhook_event_payload_kept" in plan
