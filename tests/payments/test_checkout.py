"""Checkout against the offline Stripe: what is written down, what is asked, and what a failure in between leaves."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from payments import checkout, expiry, settlement, stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import calls
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of
from tests.purchases import BUYER, check_out, end_time, hold, order_of, ordered, stock_of
from tests.races import at_once
from ticketing.models import Product

pytestmark = pytest.mark.django_db(transaction=True)

INTENTS = "/v1/payment_intents"
FATAL = 3  # the SDK tries three times


def created(sandbox) -> list[dict]:
    return sandbox.control.requests(method="POST", path=INTENTS)


@pytest.mark.row("P1", "P3")
def test_a_checkout_answers_with_order_and_intent(client, sandbox):
    """P1, P3: the contract's shape; the intent is Stripe's, open for the amount of the order."""
    held = hold(ProductFactory(price_minor=1250), 2)
    answer = check_out(client, held.id)
    order = order_of(held.id)
    payment = order.payments.get()
    intent = sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]
    assert answer.status_code == 201
    assert answer.json() == {
        "order": {
            "code": order.code,
            "secret": order.secret,
            "status": "awaiting_payment",
            "url": f"http://testserver/orders/{order.code}/?secret={order.secret}",
            "status_url": f"http://testserver/api/v1/orders/{order.code}/status/?secret={order.secret}",
        },
        "payment": {
            "id": payment.pk,
            "mode": "elements",
            "stripe_payment_intent_id": intent["id"],
            "client_secret": intent["client_secret"],
            "redirect_url": None,
        },
    }
    assert (intent["amount"], intent["currency"], intent["status"]) == (2500, "eur", "requires_payment_method")
    assert (payment.status, payment.amount_minor, payment.currency) == ("OPEN", 2500, "EUR")


@pytest.mark.row("P3")
def test_what_is_sent_is_what_was_written_down(client, sandbox):
    """P3: key and parameters as committed; metadata rebuilds the order; no name and no address leave us."""
    product = ProductFactory(price_minor=700)
    order, payment = ordered(client, product, 2)
    sent = created(sandbox)[0]
    assert sent["idempotency_key"] == payment.idempotency_key
    assert payment.idempotency_key.startswith(f"pi:{order.code}:1:")
    intent = sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]
    assert intent["metadata"] == payment.request_params["metadata"]
    assert intent["metadata"] == {
        "env": "testserver",
        "order": order.code,
        "reservation": str(order.reservation_id),
        "event": str(product.event_id),
        "attempt": "1",
        "lines": f"{product.pk}:0:700:0x2",
    }
    assert BUYER["email"] not in str(sent)
    assert BUYER["name"] not in str(sent)


@pytest.mark.row("HC-K3", "P3")
def test_hc_k3_what_is_charged_is_the_price_of_the_hold(client, sandbox):
    product = ProductFactory(price_minor=2500)
    held = hold(product)
    Product.objects.update(price_minor=9900)
    check_out(client, held.id)
    assert [line["amount"] for line in sandbox.control.ledger()["payment_intents"]] == [2500]


@pytest.mark.row("P3", "HC-B3")
def test_repeating_gives_the_same_order_and_intent(client, sandbox):
    """P3: 200 and marked; Stripe is asked to make one intent only."""
    held = hold(ProductFactory())
    first, again = check_out(client, held.id), check_out(client, held.id)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Idempotent-Replayed"] == "true"
    assert first.json() == again.json()
    assert len(created(sandbox)) == 1


@pytest.mark.row("P3")
def test_ten_tabs_at_once_get_one_intent(client, sandbox):
    """P3: double click and two tabs: one order, one payment, one intent at Stripe."""
    held = hold(ProductFactory())
    answers = at_once([partial(check_out, client, held.id)] * 10)
    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 201, 503}, "503: Stripe says that another tab's request with this key is under way"
    assert codes & {200, 201}
    ids = {body["stripe_payment_intent_id"] for answer in answers if (body := answer.json().get("payment"))}
    assert len(ids) == 1
    assert Payment.objects.get().stripe_payment_intent_id in ids
    assert len(sandbox.control.ledger()["payment_intents"]) == 1


@pytest.mark.row("P3")
def test_name_and_address_may_be_corrected_until_paid(client, sandbox):
    """P3: the correction makes no second intent."""
    held = hold(ProductFactory())
    check_out(client, held.id)
    assert check_out(client, held.id, name="Countess", email="countess@example.org").status_code == 200
    order = order_of(held.id)
    assert (order.name, order.email) == ("Countess", "countess@example.org")
    assert len(sandbox.control.ledger()["payment_intents"]) == 1


@pytest.mark.row("P4", "HC-B1")
@pytest.mark.parametrize("fault", ["drop_before", "http_500_before", "http_429"])
def test_hc_b1_stripe_away_leaves_the_order_and_its_seats(client, sandbox, fault):
    """HC-B1: 503 with the order; NEW with its key; the same call later makes exactly one intent."""
    product = ProductFactory()
    held = hold(product)
    sandbox.control.add_fault(fault, method="POST", path=INTENTS, count=FATAL)
    answer = check_out(client, held.id)
    order = order_of(held.id)
    payment = order.payments.get()
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_unavailable")
    assert answer.json()["retryable"] is True
    assert answer.json()["order"]["code"] == order.code
    assert (payment.status, payment.stripe_payment_intent_id) == ("NEW", None)
    assert (order.status, stock_of(product)) == ("AWAITING_PAYMENT", (1, 0))
    assert sandbox.control.ledger()["payment_intents"] == []
    sandbox.control.clear_faults()
    again = check_out(client, held.id)
    assert again.status_code == 200
    assert again.json()["order"]["code"] == order.code
    keys = {request["idempotency_key"] for request in created(sandbox)}
    # An answered 500 is kept by Stripe under its key: once the look-up has found nothing, the payment has a new one.
    assert len(keys) == (2 if fault == "http_500_before" else 1)
    assert payment.idempotency_key in keys
    assert len(sandbox.control.ledger()["payment_intents"]) == 1


@pytest.mark.row("HC-B4")
def test_hc_b4_a_500_after_success_is_looked_up_and_adopted(client, sandbox):
    """HC-B4: Stripe made the intent, answered 500, and repeats the 500 under our key: we find it by its metadata."""
    held = hold(ProductFactory())
    sandbox.control.add_fault("http_500_after", method="POST", path=INTENTS, count=1)
    answer = check_out(client, held.id)
    [made] = sandbox.control.ledger()["payment_intents"]
    payment = order_of(held.id).payments.get()
    assert (answer.status_code, payment.status) == (201, "OPEN")
    assert answer.json()["payment"]["stripe_payment_intent_id"] == made["id"] == payment.stripe_payment_intent_id


@pytest.mark.row("HC-B11")
def test_hc_b11_what_stripe_will_not_take_gives_its_seats_back_in_time(client, sandbox):
    """HC-B11: a price below Stripe's minimum; nothing was made there, so nothing has to be cancelled there."""
    product = ProductFactory(price_minor=10)
    held = hold(product)
    answer = check_out(client, held.id)
    assert (answer.status_code, answer.json()["code"]) == (409, "payment_refused")
    assert stock_of(product) == (1, 0)
    Reservation.objects.filter(pk=held.id).update(expires_at="2020-01-01T00:00Z")
    assert expiry.close_due() == 1
    assert stock_of(product) == (0, 0)
    assert sandbox.control.ledger()["payment_intents"] == []


@pytest.mark.row("HC-B3")
@pytest.mark.parametrize("fault", ["drop_after", "malformed"])
def test_hc_b3_a_lost_answer_makes_one_intent(client, sandbox, fault):
    """HC-B3: Stripe did it three times over, under one key; we learn of it with the next call."""
    held = hold(ProductFactory())
    sandbox.control.add_fault(fault, method="POST", path=INTENTS, count=FATAL)
    assert check_out(client, held.id).status_code == 503
    assert Payment.objects.get().status == "NEW"
    sandbox.control.clear_faults()
    again = check_out(client, held.id)
    assert again.status_code == 200
    ledger = sandbox.control.ledger()["payment_intents"]
    assert [line["id"] for line in ledger] == [again.json()["payment"]["stripe_payment_intent_id"]]


@pytest.mark.row("HC-B3")
def test_hc_b3_one_lost_answer_is_not_even_noticed(client, sandbox):
    """HC-B3: the SDK asks again with the same key."""
    held = hold(ProductFactory())
    sandbox.control.add_fault("drop_after", method="POST", path=INTENTS)
    assert check_out(client, held.id).status_code == 201
    assert len(sandbox.control.ledger()["payment_intents"]) == 1


@pytest.mark.row("P3", "HC-B1", "HC-B2")
@pytest.mark.parametrize(("place", "made"), [("before_stripe", 0), ("after_stripe_before_commit", 1)])
def test_hc_b2_a_crash_around_the_call_leaves_a_row_that_says_what_to_do(client, sandbox, settings, place, made):
    """HC-B1, HC-B2: the payment is NEW either way, and the next call ends with one intent."""
    held = hold(ProductFactory())
    settings.FAILPOINTS = {place: "raise"}
    with pytest.raises(RuntimeError):
        checkout.start(held.id, **BUYER)
    assert Payment.objects.get().status == "NEW"
    assert len(sandbox.control.ledger()["payment_intents"]) == made
    settings.FAILPOINTS = {}
    assert check_out(client, held.id).status_code == 200
    payment = Payment.objects.get()
    assert payment.status == "OPEN"
    assert [line["id"] for line in sandbox.control.ledger()["payment_intents"]] == [payment.stripe_payment_intent_id]


@pytest.mark.row("HC-B11")
def test_hc_b11_a_price_below_stripes_minimum_is_said_clearly(client, sandbox):
    """HC-B11: the order stays with its hold; the answer names the reference."""
    held = hold(ProductFactory(price_minor=1))
    answer = check_out(client, held.id)
    assert (answer.status_code, answer.json()["code"]) == (409, "payment_refused")
    assert order_of(held.id).code in answer.json()["message"]
    assert Payment.objects.get().status == "NEW"


@pytest.mark.row("HC-G6")
def test_hc_g6_a_revoked_key_keeps_the_order(client, sandbox, settings):
    settings.STRIPE_SECRET_KEY = "sk_test_revoked"
    stripe_gateway.calls.client.cache_clear()
    held = hold(ProductFactory())
    assert check_out(client, held.id).status_code == 503
    assert order_of(held.id).status == "AWAITING_PAYMENT"


@pytest.mark.row("H4", "P4")
def test_a_hold_past_its_time_cannot_be_checked_out(client, sandbox):
    """H4: 409 `ended` before the order, and after it; nothing is asked of Stripe the second time either."""
    over = hold(ProductFactory())
    end_time(over.id)
    answer = check_out(client, over.id)
    assert (answer.status_code, answer.json()["code"]) == (409, "ended")
    assert not Order.objects.exists()
    order, _payment = ordered(client, ProductFactory())
    end_time(order.reservation_id)
    late = check_out(client, order.reservation_id, name="Too Late")
    assert late.json()["code"] == "ended"
    assert order_of(order.reservation_id).name == BUYER["name"]
    assert len(created(sandbox)) == 1


@pytest.mark.row("P3")
def test_an_unknown_reservation_is_404_and_a_bad_request_400(client, sandbox):
    absent = "00000000-0000-4000-8000-000000000000"
    assert check_out(client, absent).status_code == 404
    held = hold(ProductFactory())
    for details in ({"email": "nobody"}, {"name": ""}, {"name": "x" * 151}, {"mode": "cash"}):
        answer = check_out(client, held.id, **details)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
        assert list(answer.json()["fields"]) == list(details)
    assert Reservation.objects.get(pk=held.id).status == "ACTIVE"


@pytest.mark.row("HC-B9")
def test_hc_b9_the_browser_has_no_say_in_which_intent_is_paid(client, sandbox):
    """HC-B9: somebody else's intent, amount and currency in the request change nothing."""
    stranger, _payment = ordered(client, ProductFactory(price_minor=100))
    held = hold(ProductFactory(price_minor=5000))
    foreign = stranger.payments.get().stripe_payment_intent_id
    more = {"stripe_payment_intent_id": foreign, "payment_intent": foreign, "amount": 1, "currency": "JPY"}
    answer = check_out(client, held.id, **more)
    own = answer.json()["payment"]["stripe_payment_intent_id"]
    assert own != foreign
    assert sandbox.control.payment(own)["payment_intent"]["amount"] == 5000


@pytest.mark.row("P3")
def test_a_payment_cancelled_at_stripe_gets_a_second_attempt(client, sandbox):
    """P3: another attempt, another key; the first intent stays as it ended."""
    order, first = ordered(client, ProductFactory())
    stripe_gateway.cancel_payment_intent(first.stripe_payment_intent_id, idempotency_key="by-hand-in-the-dashboard")
    client.post(f"/api/v1/orders/{order.code}/sync/?secret={order.secret}")
    first.refresh_from_db()
    assert first.status == "CANCELLED"
    assert check_out(client, order.reservation_id).status_code == 200
    second = order.payments.get(attempt=2)
    assert second.status == "OPEN"
    assert second.idempotency_key != first.idempotency_key
    assert second.stripe_payment_intent_id != first.stripe_payment_intent_id


@pytest.mark.row("P4")
def test_the_gateway_refuses_to_speak_inside_a_transaction(sandbox):
    """P4: so no stock can be locked while we wait for the network."""
    with transaction.atomic(), pytest.raises(RuntimeError, match="transaction"):
        stripe_gateway.retrieve_payment_intent("pi_any")
    assert sandbox.control.requests() == []


@pytest.mark.row("P3")
def test_nothing_that_pays_is_stored_in_any_table(client, sandbox):
    """P3: the client secret is in no row of any table, a paid order and its webhook included."""
    order, payment = ordered(client, ProductFactory())
    secret = sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]["client_secret"]
    sandbox.control.pay(payment.stripe_payment_intent_id)
    told = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    assert told["data"]["object"]["client_secret"] == secret
    assert deliver(client, told).status == "PROCESSED"
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        assert "payments_payment" in tables
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE %s', [f"%{secret}%"])
            assert cursor.fetchone() == (0,), table
        cursor.execute("SELECT count(*) FROM payments_payment AS t WHERE t::text LIKE %s", [f"%{order.code}%"])
        assert cursor.fetchone() == (1,), "the search itself must be able to find something"


@pytest.mark.row("HC-B5")
def test_hc_b5_a_key_older_than_a_day_is_never_sent_again(client, sandbox):
    """HC-B5: Stripe has forgotten the key; the look-up finds nothing, so nothing can be charged and the seat goes back."""
    product = ProductFactory()
    held = hold(product)
    sandbox.control.add_fault("drop_before", method="POST", path=INTENTS, count=FATAL)
    assert check_out(client, held.id).status_code == 503
    sandbox.control.clear_faults()
    sandbox.control.clear_requests()
    Payment.objects.update(sent_at=Now() - timedelta(hours=25))
    end_time(held.id)
    assert expiry.close_due() == 1
    assert created(sandbox) == []
    assert stock_of(product) == (0, 0)


@pytest.mark.row("P3")
def test_a_paid_order_is_replayed_without_asking_stripe(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="sync")
    sandbox.control.clear_requests()
    answer = check_out(client, order.reservation_id)
    assert (answer.status_code, answer.json()["order"]["status"]) == (200, "paid")
    assert answer.json()["payment"]["stripe_payment_intent_id"] == payment.stripe_payment_intent_id
    assert sandbox.control.requests() == []


@pytest.mark.row("HC-G3")
def test_hc_g3_while_stripe_hangs_only_some_calls_wait_for_it(sandbox):
    """The rest is told at once, so that a hanging Stripe does not eat every thread of a web process."""
    taken = [calls._free_lines.acquire(blocking=False) for _ in range(calls.CALLS_AT_ONCE)]
    try:
        assert all(taken)
        with pytest.raises(stripe_gateway.StripeUnavailable, match="under way"):
            stripe_gateway.retrieve_payment_intent("pi_any")
    finally:
        for _ in taken:
            calls._free_lines.release()
