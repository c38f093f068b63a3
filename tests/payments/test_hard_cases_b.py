"""HC-B: from our order to one payment at Stripe. Whatever is lost, repeated or mixed up, nobody is charged twice or wrongly."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from payments import expiry, parameters, refunds, settlement, truth
from payments.models import Payment, Refund, WebhookEvent
from reservations import holds
from reservations.models import Order, PromoCode, Reservation
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory
from tests.payments.endings import assert_books_agree, is_in_review, letter, letters, page, refund_list, told
from tests.payments.posting import deliver, events_of
from tests.purchases import check_out, end_time, hold, order_of, ordered, stock_of
from tests.races import at_once, of_type
from tests.stripe_sandbox.process import ControlError
from ticketing.models import Product, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

INTENTS = "/v1/payment_intents"
SESSIONS = "/v1/checkout/sessions"
PAST = "2020-01-01T00:00:00Z"


def made(sandbox) -> list[dict]:
    return sandbox.control.ledger()["payment_intents"]


def keys_sent(sandbox, path: str = INTENTS) -> set[str]:
    return {each["idempotency_key"] for each in sandbox.control.requests(method="POST") if each["path"] == path}


def pay_and_tell(client, sandbox, payment: Payment) -> None:
    sandbox.control.pay(payment.stripe_payment_intent_id)
    assert deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[-1]).status == "PROCESSED"


def paid_once(client, sandbox, order: Order, tickets: int = 1) -> bool:
    order.refresh_from_db()
    assert_books_agree(sandbox)
    return (order.status, told(client, order)["tickets"], letters(order)) == ("PAID", tickets, ["confirmation"])


@pytest.mark.row("HC-B1", "HC-B2", "HC-B3", "P2")
@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "http_500_before", "http_500_after", "malformed"])
def test_hc_b3_hosted_checkout_makes_one_session_whatever_becomes_of_the_answer(client, sandbox, fault):
    """HC-B1 to B4 on Stripe's page: three answers lost in a row; the next call finds the session, or makes the first."""
    held = hold(ProductFactory())
    sandbox.control.add_fault(fault, method="POST", path=SESSIONS, count=3)
    first = check_out(client, held.id, mode="hosted")
    assert first.status_code in (201, 503)
    sandbox.control.clear_faults()
    assert check_out(client, held.id, mode="hosted").status_code == 200
    order = order_of(held.id)
    [session] = sandbox.control.sessions()
    assert session["id"] == order.payments.get().stripe_session_id
    sandbox.control.pay_session(session["id"])
    settlement.sync(order.pk, by="poll")
    assert paid_once(client, sandbox, order)


@pytest.mark.row("HC-B4", "P4")
def test_hc_b4_the_500_is_repeated_under_the_key_and_the_intent_is_found_all_the_same(client, sandbox):
    """HC-B4: looking it up fails too at first: nothing new is made until Stripe has said that there is nothing."""
    held = hold(ProductFactory())
    sandbox.control.add_fault("http_500_after", method="POST", path=INTENTS, count=1)
    sandbox.control.add_fault("http_500_before", method="GET", path=INTENTS, count=3)
    answer = check_out(client, held.id)
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_unavailable")
    payment = Payment.objects.get()
    assert (payment.status, payment.idempotency_key in keys_sent(sandbox)) == ("NEW", True)
    sandbox.control.clear_faults()
    assert check_out(client, held.id).status_code == 200
    payment.refresh_from_db()
    assert [line["id"] for line in made(sandbox)] == [payment.stripe_payment_intent_id]
    assert len(keys_sent(sandbox)) == 1
    pay_and_tell(client, sandbox, payment)
    assert paid_once(client, sandbox, order_of(held.id))


@pytest.mark.row("HC-B5")
def test_hc_b5_an_intent_a_day_old_is_found_by_looking_and_ended(client, sandbox):
    """HC-B5: Stripe made it, we never heard, and the key is forgotten: it is found, closed, and no second one is made."""
    product = ProductFactory()
    held = hold(product)
    sandbox.control.add_fault("drop_after", method="POST", path=INTENTS, count=3)
    assert check_out(client, held.id).status_code == 503
    sandbox.control.clear_faults()
    sandbox.control.advance(25 * 3600)
    Payment.objects.update(sent_at=Now() - timedelta(hours=25))
    sandbox.control.clear_requests()
    end_time(held.id)
    assert expiry.close_due() == 1
    assert [line["status"] for line in made(sandbox)] == ["canceled"]
    assert keys_sent(sandbox) == set(), "an old key is never sent again"
    assert (order_of(held.id).status, stock_of(product)) == ("CANCELLED", (0, 0))
    assert_books_agree(sandbox)


@pytest.mark.row("HC-B5")
def test_hc_b5_sending_the_old_key_again_would_make_a_second_intent(client, sandbox):
    """HC-B5, the guard off: after a day Stripe takes the same key and parameters for a new request."""
    _order, payment = ordered(client, ProductFactory())
    truth.make(payment)
    assert len(made(sandbox)) == 1
    sandbox.control.advance(25 * 3600)
    truth.make(payment)
    assert len(made(sandbox)) == 2


@pytest.mark.row("HC-B6", "P3")
def test_hc_b6_a_key_stands_for_one_attempt_and_exactly_its_parameters(client, sandbox):
    """HC-B6: another attempt or another amount is another key, and no two payments can share one."""
    order, first = ordered(client, ProductFactory())
    Payment.objects.filter(pk=first.pk).update(status="CANCELLED")
    second = parameters.new_payment(order, attempt=2, mode="ELEMENTS")
    Payment.objects.filter(pk=second.pk).update(status="CANCELLED")
    order.total_minor += 1
    third = parameters.new_payment(order, attempt=3, mode="ELEMENTS")
    digests = {payment.idempotency_key.rpartition(":")[2] for payment in (first, second, third)}
    assert len(digests) == 3
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.filter(pk=third.pk).update(idempotency_key=first.idempotency_key)


@pytest.mark.row("HC-B6", "P3")
def test_hc_b6_the_same_key_with_another_amount_is_refused_and_charges_nobody(client, sandbox, log_lines):
    """HC-B6, forced: Stripe says 400; the seats stay held, staff are alerted; then what the key made is found and used."""
    product = ProductFactory(price_minor=2500)
    order, payment = ordered(client, product)
    params = payment.request_params | {"amount": 9900}
    Payment.objects.update(status="NEW", stripe_payment_intent_id=None, sent_at=None, request_params=params)
    answer = check_out(client, order.reservation_id)
    assert (answer.status_code, answer.json()["code"], order.code in answer.json()["message"]) == (
        409,
        "payment_refused",
        True,
    )
    assert any(line["event"] == "payment refused by stripe" and line["level"] == "critical" for line in log_lines())
    assert (stock_of(product), len(made(sandbox)), made(sandbox)[0]["amount"]) == ((1, 0), 1, 2500)
    assert check_out(client, order.reservation_id).status_code == 200
    payment.refresh_from_db()
    assert payment.stripe_payment_intent_id == made(sandbox)[0]["id"]
    pay_and_tell(client, sandbox, payment)
    assert paid_once(client, sandbox, order)


def two_tabs(client, sandbox, product: Product) -> tuple[tuple[Order, Payment], tuple[Order, Payment]]:
    """The first tab is about to pay for two; the second has given that up and is about to pay for three."""
    order, payment = ordered(client, product, 2)
    assert client.post(order.address_of("payments:api-cancel")).json()["order"] == "cancelled"
    return (order, payment), ordered(client, product, 3)


@pytest.mark.row("HC-B7", "H6")
def test_hc_b7_the_first_tab_cannot_pay_for_the_basket_that_the_second_gave_up(client, sandbox):
    """HC-B7: its intent ended with its reservation: Stripe refuses the card, and the page says that nothing was charged."""
    product = ProductFactory(quotas__capacity=3, price_minor=1000)
    (old, old_payment), (new, new_payment) = two_tabs(client, sandbox, product)
    with pytest.raises(ControlError):
        sandbox.control.pay(old_payment.stripe_payment_intent_id)
    assert "You were not charged" in page(client, old)
    shown = client.get(f"/reservations/{old.reservation_id}/checkout/", follow=True)
    assert shown.redirect_chain[-1][0] == old.get_absolute_url()
    pay_and_tell(client, sandbox, new_payment)
    amounts = {line["id"]: line["amount_received"] for line in made(sandbox)}
    assert amounts == {old_payment.stripe_payment_intent_id: 0, new_payment.stripe_payment_intent_id: 3000}
    assert (stock_of(product), letters(old)) == ((0, 3), [])
    assert paid_once(client, sandbox, new, tickets=3)


@pytest.mark.row("HC-B7", "H6", "HC-D4")
def test_hc_b7_paying_in_one_tab_and_starting_over_in_the_other_at_once(client, sandbox):
    """HC-B7: either the old basket was paid and stands, or it was given up and not charged; never both, never neither."""
    for _ in range(4):
        product = ProductFactory(quotas__capacity=4)
        order, payment = ordered(client, product, 2)
        give_up = partial(client.post, order.address_of("payments:api-cancel"))
        results = at_once([give_up, partial(sandbox.control.pay, payment.stripe_payment_intent_id)])
        is_charged = not isinstance(results[1], Exception) and results[1]["status"] == "succeeded"
        assert results[0].status_code in ((409,) if is_charged else (200,)), results
        order.refresh_from_db()
        assert order.status == ("PAID" if is_charged else "CANCELLED")
        assert_books_agree(sandbox)


@pytest.mark.row("HC-B7", "H12")
def test_hc_b7_the_lines_of_an_ordered_basket_stay_as_they_were(client, sandbox):
    """HC-B7: no address changes them; taking the hold back is refused; a new choice is another reservation."""
    product = ProductFactory(quotas__capacity=10)
    order, payment = ordered(client, product, 2)
    assert client.delete(f"/api/v1/reservations/{order.reservation_id}/").status_code == 409
    other = hold(product, 5)
    assert other.id != order.reservation_id
    assert list(order.reservation.lines.values_list("quantity", flat=True)) == [2]
    pay_and_tell(client, sandbox, payment)
    assert paid_once(client, sandbox, order, tickets=2)
    assert stock_of(product) == (5, 2)


@pytest.mark.row("HC-B8", "P11")
@pytest.mark.parametrize(
    ("changes", "paid", "owed"),
    [({"amount": 1}, "1 EUR", "2500 EUR"), ({"currency": "usd"}, "2500 USD", "2500 EUR")],
    ids=["amount", "currency"],
)
def test_hc_b8_another_amount_goes_back_and_everybody_is_told(client, sandbox, log_lines, changes, paid, owed):
    """HC-B8: to the end: the refund done at Stripe, the letter with both amounts, the alert, staff's list."""
    product = ProductFactory(price_minor=2500)
    order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sandbox.control.modify(payment.stripe_payment_intent_id, **changes)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (Refund.objects.get().reason, Payment.objects.get().status) == ("MISMATCH", "SUCCEEDED")
    order.refresh_from_db()
    assert paid in order.needs_review
    assert owed in order.needs_review
    assert any(line["event"] == "payment does not fit its order" for line in log_lines() if line["level"] == "critical")
    assert is_in_review(order)
    assert order.code in refund_list("not_done")
    refunds.submit_due()
    [line] = made(sandbox)
    assert line["amount_received"] == line["amount_refunded"] > 0
    status = told(client, order)
    assert (status["order"], status["refund"], status["done"], status["tickets"]) == ("cancelled", "full", True, 0)
    assert "You have been refunded" in status["message"]
    text = letter(order, "refund")
    assert "No tickets were issued" in text
    assert str(order.total) in text
    assert (letters(order), stock_of(product)) == (["refund"], (0, 0))
    assert_books_agree(sandbox)


@pytest.mark.row("HC-B9", "P11")
def test_hc_b9_two_buyers_swap_their_intents(client, sandbox):
    """HC-B9: the address names the other's paid intent: no ticket for it; the secrets open each their own order only."""
    mine, my_payment = ordered(client, ProductFactory(price_minor=9000))
    yours, your_payment = ordered(client, ProductFactory(price_minor=100))
    pay_and_tell(client, sandbox, your_payment)
    claim = f"&payment_intent={your_payment.stripe_payment_intent_id}&redirect_status=succeeded"
    assert "ticket is here" not in page(client, mine, claim)
    body = client.post(mine.address_of("payments:api-sync") + claim).json()
    assert (body["order"], body["tickets"]) == ("awaiting_payment", 0)
    swapped = mine.address_of("payments:api-sync").replace(mine.secret, yours.secret)
    assert client.post(swapped).status_code == 404
    my_payment.refresh_from_db()
    assert my_payment.status == "OPEN"
    assert paid_once(client, sandbox, yours)


@pytest.mark.row("HC-B9", "P11")
def test_hc_b9_an_intent_that_claims_anothers_order_in_its_metadata_pays_for_its_own(client, sandbox):
    """HC-B9: the row that names the intent decides, not what somebody wrote into its metadata."""
    mine, _my_payment = ordered(client, ProductFactory(price_minor=9000))
    yours, your_payment = ordered(client, ProductFactory(price_minor=100))
    claimed = your_payment.request_params["metadata"] | {"order": mine.code}
    sandbox.control.modify(your_payment.stripe_payment_intent_id, metadata=claimed)
    pay_and_tell(client, sandbox, your_payment)
    mine.refresh_from_db()
    assert mine.status == "AWAITING_PAYMENT"
    assert paid_once(client, sandbox, yours)


def both_in_3_d_secure(client, sandbox) -> tuple[Order, list[Payment]]:
    """Two tabs, each with the bank's page open: our books had lost sight of the first intent when the second was made."""
    order, first = ordered(client, ProductFactory(price_minor=3100))
    Payment.objects.filter(pk=first.pk).update(status="CANCELLED")
    assert check_out(client, order.reservation_id).status_code == 200
    payments = list(order.payments.order_by("attempt"))
    for payment in payments:
        waiting = sandbox.control.pay(payment.stripe_payment_intent_id, "pm_card_authenticationRequired", complete=None)
        assert waiting["status"] == "requires_action"
    return order, payments


@pytest.mark.row("HC-B10", "P10")
@pytest.mark.parametrize("is_reversed", [False, True])
def test_hc_b10_both_tabs_approve_and_the_second_payment_goes_back(client, sandbox, is_reversed):
    """HC-B10: whichever we hear of first converts; one ticket letter, one letter about the second payment."""
    order, payments = both_in_3_d_secure(client, sandbox)
    for payment in payments:
        sandbox.control.authenticate(payment.stripe_payment_intent_id)
    assert sandbox.control.ledger()["totals"]["eur"]["received"] == 6200
    heard = payments[::-1] if is_reversed else payments
    for payment in heard:
        deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    refund = Refund.objects.get()
    assert (refund.payment, refund.reason) == (heard[1], "SURPLUS")
    assert refund.idempotency_key.startswith(f"refund:surplus:{heard[1].stripe_payment_intent_id}")
    refunds.submit_due()
    refunded = {line["id"]: line["amount_refunded"] for line in made(sandbox)}
    assert refunded == {heard[0].stripe_payment_intent_id: 0, heard[1].stripe_payment_intent_id: 3100}
    assert letters(order) == ["confirmation", "refund"]
    assert "Your tickets are not affected" in letter(order, "refund")
    status = told(client, order)
    assert (status["order"], status["refund"], status["tickets"], status["done"]) == ("paid", "none", 1, True)
    assert "Your ticket is here" in page(client, order)
    assert_books_agree(sandbox)


@pytest.mark.row("HC-B10", "P10", "HC-C3")
def test_hc_b10_both_successes_at_the_same_moment(client, sandbox):
    """HC-B10: four threads for each payment: one converts, the other goes back, once."""
    order, payments = both_in_3_d_secure(client, sandbox)
    for payment in payments:
        sandbox.control.authenticate(payment.stripe_payment_intent_id)
    facts = [(payment.pk, truth.fetch(payment)) for payment in payments]
    results = at_once([partial(settlement.settle, pk, facts=fact, by="race") for pk, fact in facts] * 4)
    assert not of_type(results, Exception), results
    at_once([partial(refunds.submit, Refund.objects.get().pk)] * 4)
    assert (Refund.objects.get().reason, len(sandbox.control.refunds()), Ticket.objects.count()) == ("SURPLUS", 1, 1)
    assert sorted(letters(order)) == ["confirmation", "refund"]
    assert_books_agree(sandbox)


@pytest.mark.row("HC-B10", "P10")
def test_hc_b10_an_intent_that_no_row_knows_is_found_by_its_metadata(client, sandbox):
    """HC-B10: Stripe made two for one attempt (an old key sent again); both are paid: the unknown one goes back too."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.advance(25 * 3600)
    unknown = truth.make(payment).intent_id
    assert unknown != payment.stripe_payment_intent_id
    pay_and_tell(client, sandbox, payment)
    sandbox.control.pay(unknown)
    [told_of] = sandbox.control.events(subject=unknown, event_type="payment_intent.succeeded")
    assert deliver(client, {k: v for k, v in told_of.items() if k != "deliveries"}).status == "PROCESSED"
    refunds.submit_due()
    orphan = order.payments.get(stripe_payment_intent_id=unknown)
    assert (orphan.status, orphan.refunds.get().reason, orphan.refunds.get().status) == (
        "SUCCEEDED",
        "SURPLUS",
        "SUCCEEDED",
    )
    assert letters(order) == ["confirmation", "refund"]
    assert_books_agree(sandbox)


@pytest.mark.row("HC-B11")
def test_hc_b11_buyer_and_staff_are_told_and_the_hold_stays_until_its_time(client, sandbox, log_lines):
    """HC-B11: a price of one cent: a clear message with the reference, a critical line, the seat kept and then freed."""
    product = ProductFactory(price_minor=1, quotas__capacity=1)
    held = hold(product)
    answer = check_out(client, held.id)
    order = order_of(held.id)
    assert (answer.status_code, answer.json()["code"], order.code in answer.json()["message"]) == (
        409,
        "payment_refused",
        True,
    )
    alerts = [line for line in log_lines() if line["level"] == "critical"]
    assert [(line["event"], line["order"]) for line in alerts] == [("payment refused by stripe", order.code)]
    with pytest.raises(holds.SoldOut):
        hold(product)
    form = client.post(f"/reservations/{held.id}/checkout/", {"email": "ada@example.org", "name": "Ada"}, follow=True)
    assert order.code in form.content.decode()
    end_time(held.id)
    assert expiry.close_due() == 1
    assert (made(sandbox), stock_of(product)) == ([], (0, 0))
    hold(product)


def free_by_code(event=None, quantity: int = 1, **code) -> tuple[holds.Hold, Product, PromoCode]:
    product = ProductFactory(event=event or EventFactory(), price_minor=4000)
    promo = PromoCodeFactory(event=product.event, percent_off=100, **code)
    lines = [holds.Wanted(product.pk, None, quantity)]
    return holds.reserve(product.event.slug, lines=lines, promo_code=promo.code)[0], product, promo


@pytest.mark.row("HC-B12", "T2", "T15")
@pytest.mark.parametrize("mode", [None, "hosted"])
def test_hc_b12_a_hundred_percent_off_is_a_ticket_at_once(client, sandbox, mode):
    """HC-B12: nothing is asked of Stripe, in either mode; the ticket and its letter are there with the answer."""
    held, product, promo = free_by_code(quantity=2)
    answer = check_out(client, held.id, **({"mode": mode} if mode else {}))
    assert (answer.status_code, answer.json()["payment"], answer.json()["order"]["status"]) == (201, None, "paid")
    order = order_of(held.id)
    assert (sandbox.control.requests(), order.payments.count(), WebhookEvent.objects.count()) == ([], 0, 0)
    assert "Your tickets are here" in page(client, order)
    promo.refresh_from_db()
    assert (promo.uses, stock_of(product), order.total_minor) == (1, (0, 2), 0)
    assert paid_once(client, sandbox, order, tickets=2)


@pytest.mark.row("HC-B12", "HC-C8")
def test_hc_b12_ten_tabs_with_the_last_free_ticket(client, sandbox):
    """HC-B12: the same uniqueness as a paid order: one order, one letter, one use of the code."""
    held, product, promo = free_by_code(last_use=True)
    answers = at_once([partial(check_out, client, held.id)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    promo.refresh_from_db()
    assert (promo.uses, stock_of(product), Reservation.objects.get().status) == (1, (0, 1), "CONFIRMED")
    assert paid_once(client, sandbox, order_of(held.id))


@pytest.mark.row("HC-B12")
def test_hc_b12_a_free_order_past_its_hold_is_not_given(client, sandbox):
    held, product, promo = free_by_code(last_use=True)
    end_time(held.id)
    assert check_out(client, held.id).status_code == 409
    holds.release_expired()
    promo.refresh_from_db()
    assert (Order.objects.count(), Ticket.objects.count(), stock_of(product), promo.uses) == (0, 0, (0, 0), 0)
