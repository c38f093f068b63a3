"""What stored events do: retries, parking, giving up, and that neither order nor number of them matters."""

import itertools
from datetime import timedelta
from functools import partial

import pytest
from django.db.models import F
from django.db.models.functions import Now

from config.state_machine import MoveRefused
from payments import inbox, webhooks
from payments.models import Payment, StatusChange, WebhookEvent
from reservations.models import Order
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of, made_up, post, stored
from tests.purchases import ordered, sql, stock_of
from tests.races import at_once
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def time_passes(event: WebhookEvent, **ago: float) -> WebhookEvent:
    """The next attempt is due; `ago` also moves the moment of arrival."""
    WebhookEvent.objects.filter(pk=event.pk).update(
        next_attempt_at=Now(), received_at=F("received_at") - timedelta(**ago)
    )
    return event


def state() -> dict[str, object]:
    """Everything that a purchase leaves, but for times and who noticed."""
    return {
        "payment": list(Payment.objects.values_list("status", "amount_received_minor")),
        "order": list(Order.objects.values_list("status", "needs_review")),
        "tickets": list(Ticket.objects.order_by("serial").values_list("serial", "status")),
        "letters": list(OutgoingEmail.objects.values_list("kind", flat=True)),
    }


@pytest.mark.row("P7", "HC-C1", "HC-C4")
def test_hc_c4_the_webhook_alone_ends_in_tickets(client, sandbox):
    """HC-C1, HC-C4: the browser never returns."""
    product = ProductFactory()
    order, payment = ordered(client, product, 2)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (event.status, event.attempts, event.last_error) == ("PROCESSED", 1, "")
    assert event.processed_at is not None
    assert Order.objects.get().status == "PAID"
    assert Payment.objects.get().settled_by == "webhook"
    assert Ticket.objects.count() == 2
    assert stock_of(product) == (0, 2)
    change = StatusChange.objects.get(kind="webhookevent")
    assert (change.from_status, change.to_status, change.by) == ("RECEIVED", "PROCESSED", "webhook")
    assert order.code == OutgoingEmail.objects.get().reference


@pytest.mark.row("HC-E7", "HC-C11")
def test_hc_e7_five_workers_with_one_event_have_one_effect(client, sandbox):
    """HC-E7, HC-C11: delivered twenty times at once, processed by five threads: everything once."""
    product = ProductFactory()
    _order, payment = ordered(client, product, 2)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    at_once([partial(post, client, event)] * 20)
    row = WebhookEvent.objects.get()
    at_once([partial(webhooks.process, row.pk)] * 5)
    assert stored(event).status == "PROCESSED"
    assert Ticket.objects.count() == 2
    assert OutgoingEmail.objects.count() == 1
    assert stock_of(product) == (0, 2)
    assert StatusChange.objects.filter(kind="webhookevent").count() == 1


@pytest.mark.row("HC-C12")
def test_hc_c12_two_events_for_one_fact_have_one_effect(client, sandbox):
    """HC-C12: two endpoints on one address: other ids, same fact, at once."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    copies = [event | {"id": f"evt_copy_{n}"} for n in range(4)]
    for copy in copies:
        post(client, copy)
    at_once([partial(webhooks.process, stored(copy).pk) for copy in copies])
    assert {stored(copy).status for copy in copies} == {"PROCESSED"}
    assert Ticket.objects.count() == OutgoingEmail.objects.count() == 1


@pytest.mark.row("P9", "HC-C10", "HC-C13")
def test_hc_c10_every_order_of_a_purchases_events_ends_in_the_same_state(client, sandbox):
    """P9, HC-C10: declined, then paid; its three events in all six orders, and each twice."""
    ends = []
    for number, order_of_events in enumerate(itertools.permutations(range(3))):
        _order, payment = ordered(client, ProductFactory())
        sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000009995")
        sandbox.control.pay(payment.stripe_payment_intent_id)
        told = [event for event in events_of(sandbox, payment) if event["type"].startswith("payment_intent.")]
        assert [event["type"].partition(".")[2] for event in told] == ["created", "payment_failed", "succeeded"]
        for position in (*order_of_events, *order_of_events[::-1]):
            deliver(client, told[position])
        ends.append(state())
        sql(
            "TRUNCATE payments_payment, payments_webhookevent, reservations_order, ticketing_ticket,"
            " ticketing_outgoingemail, ticketing_serialcounter CASCADE"
        )
        assert number < 6
    assert all(end == ends[0] for end in ends)
    assert ends[0]["payment"] == [("SUCCEEDED", 2500)]
    assert ends[0]["letters"] == ["confirmation"]


@pytest.mark.row("P9")
def test_a_stale_event_does_not_undo_what_happened_since(client, sandbox):
    """P9: the failed attempt is told after the order was paid: the object is fetched anew, and is paid."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000000002")
    failed = events_of(sandbox, payment, "payment_intent.payment_failed")[0]
    sandbox.control.pay(payment.stripe_payment_intent_id)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    before = state()
    assert deliver(client, failed).status == "PROCESSED"
    assert state() == before


@pytest.mark.row("HC-F1", "HC-E12")
def test_hc_e12_the_event_is_a_hint_and_stripe_the_truth(client, sandbox):
    """HC-E12: an event that claims a success (in another API version) of what is not paid issues nothing."""
    _order, payment = ordered(client, ProductFactory())
    claim = {"id": payment.stripe_payment_intent_id, "status": "succeeded", "amount_received": 2500}
    event = deliver(client, made_up(data={"object": claim}, api_version="2011-01-01"))
    assert event.status == "PROCESSED"
    assert Order.objects.get().status == "AWAITING_PAYMENT"
    assert not Ticket.objects.exists()


@pytest.mark.row("P8")
def test_a_type_we_do_not_handle_is_ignored(client):
    event = deliver(client, made_up(type="invoice.finalized"))
    assert (event.status, event.attempts) == ("IGNORED", 0)


@pytest.mark.row("HC-C9", "P8")
def test_hc_c9_an_event_that_comes_before_our_own_commit_is_tried_again(client, sandbox):
    """HC-C9: nothing of ours matches yet: it stays RECEIVED, and is processed when our row is there."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    intent_id = payment.stripe_payment_intent_id
    told = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    Payment.objects.all().delete()
    early = deliver(client, told)
    assert (early.status, intent_id in early.last_error) == ("RECEIVED", True)
    assert webhooks.sweep() == 0
    payment.save(force_insert=True)
    time_passes(early)
    assert webhooks.sweep() == 1
    assert stored(told).status == "PROCESSED"
    assert Order.objects.get().status == "PAID"


@pytest.mark.row("HC-C9", "P8")
def test_hc_c9_what_matches_nothing_for_an_hour_is_parked_for_staff(client, sandbox):
    """HC-C9: until then it is tried again, however often; parked is final until somebody requeues it."""
    event = deliver(client, made_up())
    for _ in range(12):
        time_passes(event, minutes=4)
        webhooks.sweep()
    event.refresh_from_db()
    assert (event.status, event.attempts) == ("RECEIVED", 13)
    time_passes(event, minutes=13)
    webhooks.sweep()
    event.refresh_from_db()
    assert (event.status, "pi_nobody_knows" in event.last_error) == ("PARKED", True)
    time_passes(event)
    assert webhooks.sweep() == 0


@pytest.mark.row("HC-E10", "P8")
def test_hc_e10_a_poisoned_event_is_tried_slower_and_slower_and_then_given_up(client, sandbox, settings):
    """HC-E10: its trace is kept, the event after it is processed, and DEAD comes only after the last wait."""
    settings.FAILPOINTS = {"webhook_after_retrieve": "raise"}
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert "FailpointReached" in event.last_error
    assert "Traceback" in event.last_error
    waits = []
    for attempt in range(1, len(inbox.WAITS) + 1):
        assert (event.status, event.attempts) == ("RECEIVED", attempt)
        waits.append(due_in(event))
        webhooks.sweep()
        assert event.attempts == attempt, "not before its time"
        time_passes(event)
        other = deliver(client, made_up(id=f"evt_other_{attempt}", type="invoice.paid"))
        webhooks.sweep()
        assert other.status == "IGNORED"
        event.refresh_from_db()
    assert waits == inbox.WAITS
    assert (event.status, event.attempts) == ("DEAD", len(inbox.WAITS) + 1)
    assert sum(waits[:2], timedelta()) < timedelta(minutes=1) <= sum(waits, timedelta())
    assert Order.objects.get().status == "AWAITING_PAYMENT"


def due_in(event: WebhookEvent) -> timedelta:
    """The wait that was set, to the second."""
    moment = WebhookEvent.objects.annotate(wait=F("next_attempt_at") - Now()).values_list("wait", flat=True)
    return timedelta(seconds=round(moment.get(pk=event.pk).total_seconds()))


@pytest.mark.row("P8", "HC-E10")
def test_a_dead_or_parked_event_can_be_requeued_by_staff(client, sandbox):
    """P8: it is due at once with all its tries; what is processed or ignored too, what waits already not."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0] | {"type": "unknown.type"})
    for status in ("DEAD", "PARKED"):
        WebhookEvent.objects.filter(pk=event.pk).update(status=status, type="payment_intent.succeeded", attempts=10)
        event.refresh_from_db()
        inbox.requeue(event, by="staff:1")
        event.refresh_from_db()
        assert (event.status, event.attempts) == ("RECEIVED", 0)
        with pytest.raises(MoveRefused):
            inbox.requeue(event, by="staff:1")
        assert webhooks.sweep() == 1
        assert stored({"id": event.stripe_id}).status == "PROCESSED"
    assert Ticket.objects.count() == 1
    assert StatusChange.objects.filter(by="staff:1").count() == 2


@pytest.mark.row("HC-E1", "P8")
def test_hc_e1_an_event_that_no_worker_picked_up_is_found_by_the_sweep(client, sandbox):
    """HC-E1: answered 200, never nudged; not before a nudged one would be done."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    post(client, event)
    assert webhooks.sweep() == 0
    time_passes(stored(event))
    assert webhooks.sweep() == 1
    assert Order.objects.get().status == "PAID"


@pytest.mark.row("HC-E4", "T3")
@pytest.mark.parametrize("place", ["webhook_after_retrieve", "in_settle_0", "in_settle_2", "before_webhook_commit"])
def test_hc_e4_an_effect_that_fails_half_way_leaves_nothing_and_is_repeated(client, sandbox, settings, place):
    """HC-E4: the event and its effect are one commit."""
    product = ProductFactory()
    _order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settings.FAILPOINTS = {place: "raise"}
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (event.status, Payment.objects.get().status, Order.objects.get().status) == (
        "RECEIVED",
        "OPEN",
        "AWAITING_PAYMENT",
    )
    assert not Ticket.objects.exists()
    assert stock_of(product) == (1, 0)
    settings.FAILPOINTS = {}
    time_passes(event)
    webhooks.sweep()
    assert stored({"id": event.stripe_id}).status == "PROCESSED"
    assert Ticket.objects.get().serial == 1
    assert stock_of(product) == (0, 1)


@pytest.mark.row("P8")
def test_stripe_away_while_an_event_waits(client, sandbox):
    """P8: no answer is a failed attempt like any other; afterwards nothing is lost."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    told = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    sandbox.control.add_fault("http_500_before", method="GET", path="/v1/payment_intents/*", count=3)
    event = deliver(client, told)
    assert (event.status, event.attempts, "StripeUnavailable" in event.last_error) == ("RECEIVED", 1, True)
    sandbox.control.clear_faults()
    time_passes(event)
    webhooks.sweep()
    assert Order.objects.get().status == "PAID"
