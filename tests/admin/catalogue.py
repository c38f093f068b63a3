"""At least `n` rows of every model that the back office shows, made as the office itself makes them."""

from datetime import timedelta
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.db.models import Model
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from knox.models import AuthToken
from waffle.models import Flag

from monitoring.models import Heartbeat
from payments import checkout, settlement
from payments.models import Breaker, Payment, Refund, StripeCalls, StripeCursor, WebhookEvent
from payments.stripe_gateway import Facts
from reservations.models import Conflict, LimitHit, Order, PromoCode, SweepRun, Tally, UsedSignature
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory, UserFactory
from tests.purchases import hold
from ticketing import emails
from ticketing.models import OutgoingEmail, Product, User


def paid(payment: Payment) -> Facts:
    """What Stripe would say once the whole amount has arrived."""
    return Facts(
        status=Payment.Status.SUCCEEDED,
        stripe_status="succeeded",
        amount_minor=payment.amount_minor,
        amount_received_minor=payment.amount_minor,
        currency=payment.currency,
        is_livemode=False,
        intent_id=f"pi_test{payment.pk}",
    )


def unpaid_order(product: Any, quantity: int = 1, **details: str) -> Order:
    """Awaiting payment: checkout's first commit, as if the process had died before it spoke to Stripe."""
    buyer = {"email": "ada@example.org", "name": "Ada Lovelace"} | details
    return checkout._write_down(hold(product, quantity).id, mode=None, **buyer)[0]


def paid_order(product: Any, quantity: int = 1, **details: str) -> Order:
    order = unpaid_order(product, quantity, **details)
    payment = order.payments.get()
    settlement.settle(payment.pk, facts=paid(payment), by="webhook")
    order.refresh_from_db()
    return order


def webhook_event(number: int, **fields: Any) -> WebhookEvent:
    known = {"type": "payment_intent.succeeded", "object_id": f"pi_test{number}", "payload": {"id": f"evt_{number}"}}
    return WebhookEvent.objects.create(stripe_id=f"evt_{number}", **known | fields)


def one_more_of_everything(number: int, staff: User) -> None:
    """An event that sold one unit, and a row of each model that no sale makes."""
    event = EventFactory()
    quota = QuotaFactory(event=event, slot=None)
    SlotFactory(event=event)
    paid_order(ProductFactory(event=event, quotas=[quota]))
    hold(ProductFactory(event=event, quotas=[quota]), key=f"key-{number}")
    webhook_event(number)
    UsedSignature.objects.create(signature=f"{number:064d}")
    PromoCode.objects.create(event=event, code=f"CODE{number}", percent_off=10, max_uses=50)
    minute = timezone.now().replace(second=0, microsecond=0)
    Conflict.objects.create(product=newest(Product), minute=minute, requests=3, units=5)
    LimitHit.objects.create(limit="holds a minute", who=f"192.0.2.{number}", minute=minute, hits=4)
    Tally.objects.create(name=f"counted {number}", minute=minute, count=2)
    SweepRun.objects.create(name=SweepRun.Name.PURGE, by="beat", finished_at=timezone.now(), dealt_with=number)
    OutgoingEmail.objects.update(status=OutgoingEmail.Status.DEAD)
    emails.send_again(newest(OutgoingEmail), by="staff")  # type: ignore[arg-type]
    AuthToken.objects.create(user=UserFactory())
    Group.objects.create(name=f"group {number}")
    Heartbeat.objects.create(part=f"part {number}")
    Flag.objects.create(name=f"flag-{number}", note="what it switches")
    refund = {"payment": newest(Payment), "amount_minor": 100, "currency": "EUR", "reason": Refund.Reason.STAFF}
    Refund.objects.create(**refund, by="staff:1", idempotency_key=f"refund-{number}")
    Breaker.objects.create(name=f"breaker {number}")
    StripeCursor.objects.create(name=f"list {number}", read_to=timezone.now())
    calls = {"at": timezone.now(), "operation": f"operation {number}", "outcome": "OK"}
    StripeCalls.objects.create(**calls, calls=3, milliseconds=300)
    LogEntry.objects.log_actions(staff.pk, [event], CHANGE, change_message="named")
    every = IntervalSchedule.objects.create(every=number + 1, period="seconds")
    PeriodicTask.objects.create(name=f"task {number}", task="monitoring.beat", interval=every)
    CrontabSchedule.objects.create(minute=str(number))
    ClockedSchedule.objects.create(clocked_time=timezone.now() + timedelta(hours=number))
    SolarSchedule.objects.create(event="sunrise", latitude=number, longitude=number)


def newest(model: type[Model]) -> Model:
    row = model._default_manager.order_by("-pk").first()
    assert row is not None, f"no {model._meta.label} was made"
    return row
