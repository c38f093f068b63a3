"""Paying on Stripe's own page (P2): one paid order in the end, whichever way; the session ends with the hold."""

from datetime import timedelta

import pytest
from django.utils import timezone

from payments import expiry, settlement
from payments.models import Payment
from reservations.models import Order
from tests.factories import ProductFactory
from tests.payments.posting import deliver
from tests.purchases import check_out, end_time, hold, order_of, stock_of
from ticketing.models import OutgoingEmail, Ticket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("P2")]


def hosted(client, product, quantity: int = 1) -> tuple[Order, Payment]:
    held = hold(product, quantity)
    answer = check_out(client, held.id, mode="hosted")
    assert answer.status_code == 201, answer.content
    order = order_of(held.id)
    return order, order.payments.get()


def events(sandbox, subject: str, event_type: str) -> list[dict]:
    found = sandbox.control.events(subject=subject, event_type=event_type)
    return [{name: value for name, value in event.items() if name != "deliveries"} for event in reversed(found)]


def test_the_answer_names_stripes_page_and_nothing_else(client, sandbox):
    held = hold(ProductFactory(price_minor=700), 2)
    answer = check_out(client, held.id, mode="hosted")
    payment = answer.json()["payment"]
    assert (answer.status_code, payment["mode"]) == (201, "hosted")
    assert payment["redirect_url"].startswith(sandbox.api_base)
    assert (payment["client_secret"], payment["stripe_payment_intent_id"]) == (None, None)
    row = Payment.objects.get()
    assert (row.status, row.stripe_session_id[:3], row.stripe_payment_intent_id) == ("OPEN", "cs_", None)
    again = check_out(client, held.id)
    assert (again.status_code, again.json()["payment"]) == (200, payment)
    (session,) = sandbox.control.sessions()
    assert (session["amount_total"], session["billing_address_collection"]) == (1400, "required")


def test_an_event_may_send_its_buyers_there(client, sandbox):
    held = hold(ProductFactory(event__payment_mode="HOSTED"))
    assert check_out(client, held.id).json()["payment"]["mode"] == "hosted"
    assert check_out(client, held.id, mode="elements").json()["payment"]["mode"] == "elements"


def test_its_webhook_ends_as_tickets(client, sandbox):
    product = ProductFactory()
    order, payment = hosted(client, product, 2)
    sandbox.control.pay_session(payment.stripe_session_id)
    assert (
        deliver(client, events(sandbox, payment.stripe_session_id, "checkout.session.completed")[0]).status
        == "PROCESSED"
    )
    order.refresh_from_db()
    payment.refresh_from_db()
    assert (order.status, payment.status, payment.settled_by) == ("PAID", "SUCCEEDED", "webhook")
    assert payment.stripe_payment_intent_id.startswith("pi_")
    assert (Ticket.objects.count(), stock_of(product), OutgoingEmail.objects.count()) == (2, (0, 2), 1)


def test_the_event_of_its_intent_alone_is_enough(client, sandbox):
    """P12: no row knows the PaymentIntent of a session yet; its metadata do."""
    order, payment = hosted(client, ProductFactory())
    paid = sandbox.control.pay_session(payment.stripe_session_id)
    intent_id = paid["payment_intent"] if isinstance(paid["payment_intent"], str) else paid["payment_intent"]["id"]
    assert deliver(client, events(sandbox, intent_id, "payment_intent.succeeded")[0]).status == "PROCESSED"
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count()) == ("PAID", 1)
    deliver(client, events(sandbox, payment.stripe_session_id, "checkout.session.completed")[0])
    assert (Ticket.objects.count(), OutgoingEmail.objects.count()) == (1, 1)


def test_a_buyer_who_comes_back_settles_it(client, sandbox):
    order, payment = hosted(client, ProductFactory())
    sandbox.control.pay_session(payment.stripe_session_id)
    assert client.post(order.address_of("payments:api-sync")).json()["order"] == "paid"


@pytest.mark.row("H9", "HC-D8")
def test_hc_d8_the_session_ends_with_the_hold(client, sandbox):
    """HC-D8: then nothing can be paid on Stripe's page any more."""
    product = ProductFactory()
    order, payment = hosted(client, product)
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    assert sandbox.control.session(payment.stripe_session_id)["checkout_session"]["status"] == "expired"
    order.refresh_from_db()
    assert (order.status, stock_of(product)) == ("CANCELLED", (0, 0))


@pytest.mark.row("H9", "HC-D7")
def test_hc_d7_a_session_paid_at_the_last_moment_is_not_expired(client, sandbox):
    """HC-D7: "not open" is no reason to give the seat away: Stripe is asked, and the order is paid."""
    product = ProductFactory()
    order, payment = hosted(client, product)
    sandbox.control.pay_session(payment.stripe_session_id)
    end_time(order.reservation_id)
    assert expiry.close_due() == 0
    order.refresh_from_db()
    assert (order.status, stock_of(product)) == ("PAID", (0, 1))


def test_another_mode_ends_the_first_payment_before_it_begins_its_own(client, sandbox):
    order, first = hosted(client, ProductFactory())
    changed = check_out(client, order.reservation_id, mode="elements")
    assert (changed.status_code, changed.json()["payment"]["mode"]) == (200, "elements")
    assert sandbox.control.session(first.stripe_session_id)["checkout_session"]["status"] == "expired"
    back = check_out(client, order.reservation_id, mode="hosted")
    assert back.json()["payment"]["mode"] == "hosted"
    assert [(each.mode, each.status) for each in order.payments.order_by("attempt")] == [
        ("HOSTED", "CANCELLED"),
        ("ELEMENTS", "CANCELLED"),
        ("HOSTED", "OPEN"),
    ]


def test_the_mode_is_fixed_while_the_first_payment_cannot_be_ended(client, sandbox):
    order, _payment = hosted(client, ProductFactory())
    sandbox.control.add_fault("http_500_before", method="POST", path="/v1/checkout/sessions/*/expire", count=9)
    answer = check_out(client, order.reservation_id, mode="elements")
    assert (answer.status_code, answer.json()["code"]) == (409, "mode_fixed")
    assert order.payments.get().status == "OPEN"


def test_another_mode_after_it_was_paid_finds_the_paid_order(client, sandbox):
    order, first = hosted(client, ProductFactory())
    sandbox.control.pay_session(first.stripe_session_id)
    answer = check_out(client, order.reservation_id, mode="elements")
    assert (answer.status_code, answer.json()["order"]["status"]) == (200, "paid")
    assert order.payments.count() == 1


def test_with_its_flag_off_everybody_pays_on_our_page(client, sandbox):
    from waffle.testutils import override_flag

    with override_flag("hosted-checkout", active=False):
        answer = check_out(client, hold(ProductFactory(event__payment_mode="HOSTED")).id)
    assert answer.json()["payment"]["mode"] == "elements"


def test_a_lost_answer_makes_no_second_session(client, sandbox):
    held = hold(ProductFactory())
    sandbox.control.add_fault("http_500_after", method="POST", path="/v1/checkout/sessions", count=1)
    answer = check_out(client, held.id, mode="hosted")
    assert answer.status_code == 201, answer.content
    assert len(sandbox.control.sessions()) == 1


@pytest.mark.row("HC-C16")
@pytest.mark.parametrize("is_paid", [True, False])
def test_hc_c16_a_bank_debit_on_stripes_page_waits_for_the_bank(client, debit_sandbox, is_paid):
    product = ProductFactory()
    order, payment = hosted(client, product)
    paid = debit_sandbox.control.pay_session(payment.stripe_session_id, "pm_success_de")
    intent_id = paid["payment_intent"] if isinstance(paid["payment_intent"], str) else paid["payment_intent"]["id"]
    settlement.sync(order.pk, by="poll")
    payment.refresh_from_db()
    assert (payment.status, stock_of(product)) == ("PROCESSING", (1, 0))
    end_time(order.reservation_id)
    assert expiry.close_due() == 0
    debit_sandbox.control.settle(intent_id, succeeded=is_paid)
    Payment.objects.update(asked_at=None, next_attempt_at="2020-01-01T00:00:00Z")
    settlement.sync(order.pk, by="poll")
    expiry.close_due()
    order.refresh_from_db()
    assert (order.status, stock_of(product)) == (("PAID", (0, 1)) if is_paid else ("CANCELLED", (0, 0)))


@pytest.mark.row("HC-C16")
@pytest.mark.parametrize("mode", ["elements", "hosted"])
@pytest.mark.parametrize(
    ("accepts", "starts_in_days", "is_offered"), [(True, 15, True), (True, 13, False), (False, 15, False)]
)
def test_hc_c16_a_bank_may_decide_only_where_staff_accept_it_and_before_the_start(
    client, debit_sandbox, settings, mode, accepts, starts_in_days, is_offered
):
    """HC-C16: otherwise such ways to pay are not offered, on our page nor on Stripe's."""
    settings.SLOW_PAYMENT_DAYS = 14
    starts_at = timezone.now() + timedelta(days=starts_in_days)
    held = hold(ProductFactory(event__accepts_slow_payments=accepts, event__starts_at=starts_at))
    assert check_out(client, held.id, mode=mode).status_code == 201
    payment = Payment.objects.get()
    if mode == "hosted":
        made = debit_sandbox.control.session(payment.stripe_session_id)["checkout_session"]
    else:
        made = debit_sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]
    assert made["payment_method_types"] == (["card", "sepa_debit"] if is_offered else ["card"])
