"""A dead broker or beat does not stop the sweeps."""

from datetime import timedelta

import pytest
from celery import current_app
from django.db.models.functions import Now

from config.beat import FALLBACK
from monitoring import fallback, heartbeats
from monitoring.models import Heartbeat
from payments import inbox
from payments.models import WebhookEvent
from reservations.models import Order
from tests.factories import ProductFactory
from tests.payments.posting import events_of, made_up, post, stored
from tests.purchases import end_time, hold, ordered, stock_of
from ticketing.models import OutgoingEmail

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def tasks_are_loaded() -> None:
    """As in a worker."""
    current_app.loader.import_default_modules()


@pytest.mark.row("HC-E8", "HC-E9")
def test_why_it_is_needed(dead_broker):
    assert fallback.why_needed() == "broker unreachable"
    heartbeats.beat("beat")
    assert fallback.why_needed() == "broker unreachable"


@pytest.mark.row("HC-E9")
def test_it_rests_while_beat_is_heard_and_wakes_when_it_is_not():
    """HC-E9: the heartbeat is what beat sends through the broker to a worker."""
    assert fallback.why_needed() == "beat silent"
    current_app.tasks["monitoring.beat"].run()
    assert fallback.why_needed() == ""
    Heartbeat.objects.update(at=Now() - heartbeats.SILENT_AFTER - timedelta(seconds=1))
    assert fallback.why_needed() == "beat silent"


@pytest.mark.row("HC-E1", "HC-E8")
@pytest.mark.django_db(transaction=True)
def test_hc_e1_the_sweeps_do_everything_that_waits_without_a_broker(client, sandbox, dead_broker):
    """HC-E1: an event, an order past its time, a hold past its time, and the letters they cause."""
    paid, payment = ordered(client, ProductFactory())
    late, _payment = ordered(client, ProductFactory())
    forgotten = ProductFactory()
    for reservation in (late.reservation_id, hold(forgotten).id):
        end_time(reservation)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    assert post(client, event).status_code == 200
    WebhookEvent.objects.update(next_attempt_at=Now())
    fallback.run_sweeps()
    assert stored(event).status == "PROCESSED"
    assert set(Order.objects.values_list("pk", "status")) == {(paid.pk, "PAID"), (late.pk, "CANCELLED")}
    assert stock_of(forgotten) == (0, 0)
    assert sorted(OutgoingEmail.objects.values_list("kind", "status")) == [
        ("confirmation", "SENT"),
        ("order_expired", "SENT"),
    ]


@pytest.mark.row("HC-E10")
@pytest.mark.django_db(transaction=True)
def test_hc_e10_a_sweep_that_fails_does_not_stop_the_next(client, settings):
    """HC-E10: the sweep of holds is asked for an impossible batch; events before and letters after it are done."""
    settings.HOLD_SWEEP_BATCH = -1
    end_time(hold(ProductFactory()).id)
    event = made_up(type="invoice.paid")
    inbox.store(event)
    WebhookEvent.objects.update(next_attempt_at=Now())
    OutgoingEmail.objects.create(kind="order_expired", to="a@example.org", reference="X", dedupe_key="X", context={})
    fallback.run_sweeps()
    assert stored(event).status == "IGNORED"
    assert OutgoingEmail.objects.get().status == "SENT"
    assert FALLBACK.index("reservations.release_expired_holds") < FALLBACK.index("ticketing.send_due_emails")
