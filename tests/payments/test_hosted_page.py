"""The payment page of orders that are paid on Stripe's page, and what their reservations allow."""

import re

import pytest
from waffle.testutils import override_flag

from payments.models import Payment
from reservations.models import Reservation
from tests.factories import ProductFactory
from tests.purchases import BUYER, check_out, end_time, hold, order_of
from tests.redis_faults import forget

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("P2")]

CONTINUE = {"continue": "1"}


def address(order) -> str:
    return f"/reservations/{order.reservation_id}/checkout/"


def hosted(client, **product):
    """An order that waits for its payment on Stripe's page, as the details form leaves it."""
    held = hold(ProductFactory(event__payment_mode="HOSTED", **product))
    answer = client.post(f"/reservations/{held.id}/checkout/", BUYER)
    return order_of(held.id), answer


def extend(client, reservation_id):
    return client.post(f"/api/v1/reservations/{reservation_id}/extend/", {}, content_type="application/json")


def test_the_details_lead_to_stripes_page_and_so_does_every_continue(client, sandbox):
    order, answer = hosted(client)
    session = sandbox.control.sessions()[0]
    assert (answer.status_code, answer["Location"]) == (303, session["url"])
    again = client.post(address(order), CONTINUE)
    assert (again.status_code, again["Location"]) == (303, session["url"])
    assert len(sandbox.control.sessions()) == 1
    assert (order_of(order.reservation_id).email, order.payments.count()) == (BUYER["email"], 1)


def test_the_page_has_one_button_and_nothing_of_stripes(client, sandbox, settings):
    order, _answer = hosted(client)
    page = client.get(address(order)).content.decode()
    assert "Continue to payment" in page
    assert "Held for you until" in page
    assert order.address_of("payments:cancel").split("?")[0] in page
    assert settings.STRIPE_JS_URL not in page
    assert "payment.js" not in page
    assert "not seen a payment yet" in client.get(address(order) + "?back=1").content.decode()


@pytest.mark.row("H5")
def test_what_is_paid_on_stripes_page_is_not_extended(client, sandbox):
    """Active: yes. Ordered there: no. Ordered and paid on our page after all: yes."""
    held = hold(ProductFactory(event__payment_mode="HOSTED"))
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["can_extend"] is True
    check_out(client, held.id)
    before = Reservation.objects.get(pk=held.id).expires_at
    refused = extend(client, held.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_extendable")
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["can_extend"] is False
    assert "Add 10 minutes" not in client.get(f"/reservations/{held.id}/").content.decode()
    assert Reservation.objects.get(pk=held.id).expires_at == before
    assert check_out(client, held.id, mode="elements").status_code == 200
    extended = extend(client, held.id)
    assert (extended.status_code, extended.json()["can_extend"]) == (200, False)
    assert extend(client, held.id).json()["code"] == "already_extended"


@pytest.mark.row("H5")
def test_the_extend_form_of_an_old_tab_says_why_not(client, sandbox):
    order, _answer = hosted(client)
    answer = client.post(f"/reservations/{order.reservation_id}/extend/", {"next": "pay"}, follow=True)
    assert "cannot be extended" in answer.content.decode()
    assert Reservation.objects.get(pk=order.reservation_id).extended_at is None


@pytest.mark.row("HC-G1", "P4")
def test_hc_g1_a_paused_payment_keeps_the_tickets_and_can_be_tried_again(client, sandbox):
    """HC-G1: ten more minutes, said by the page; the next try goes through, and makes one session."""
    held = hold(ProductFactory(event__payment_mode="HOSTED"))
    sandbox.control.add_fault("http_500_before", method="POST", path="/v1/checkout/sessions", count=3)
    answer = client.post(f"/reservations/{held.id}/checkout/", BUYER, follow=True)
    page = answer.content.decode()
    kept = Reservation.objects.get(pk=held.id)
    assert answer.redirect_chain == [(f"/reservations/{held.id}/checkout/", 303)]
    assert "Payment is paused" in page
    assert (kept.expires_at - held.expires_at).total_seconds() == 600
    assert page.count(f"{kept.expires_at:%M:%S}") >= 2
    sandbox.control.clear_faults()
    assert (
        client.post(f"/reservations/{held.id}/checkout/", CONTINUE)["Location"] == sandbox.control.sessions()[0]["url"]
    )
    assert "Payment is paused" not in client.get(f"/reservations/{held.id}/checkout/").content.decode()


@pytest.mark.row("HC-G1", "P4")
def test_hc_g1_the_refusal_says_until_when_the_tickets_are_kept(client, sandbox):
    """HC-G1: the contract's 503 carries the new end, and the server's time to count down from."""
    held = hold(ProductFactory())
    sandbox.control.add_fault("drop_before", path="/v1/*", count=3)
    body = check_out(client, held.id).json()
    assert (body["code"], body["retryable"]) == ("payment_unavailable", True)
    told = client.get(f"/api/v1/reservations/{held.id}/").json()
    assert body["expires_at"] == told["expires_at"]
    assert held.server_time.isoformat() < body["server_time"].replace("Z", "+00:00") < told["server_time"]


@pytest.mark.row("HC-C2")
def test_a_session_that_was_paid_meanwhile_leads_to_the_order(client, sandbox):
    order, _answer = hosted(client)
    sandbox.control.pay_session(order.payments.get().stripe_session_id)
    answer = client.post(address(order), CONTINUE)
    assert answer["Location"] == f"{order.get_absolute_url()}&redirect_status=returned"


@pytest.mark.row("HC-D6", "HC-C16")
def test_while_a_bank_decides_there_is_nothing_to_pay(client, sandbox):
    order, _answer = hosted(client)
    Payment.objects.update(status="PROCESSING")
    assert client.get(address(order))["Location"] == order.get_absolute_url()
    page = client.get(order.get_absolute_url()).content.decode()
    assert "Confirming your purchase" in page
    assert "Your bank is deciding" in page


@pytest.mark.row("HC-D8")
def test_hc_d8_continuing_too_late_leads_to_the_order_which_asks(client, sandbox):
    """HC-D8: the end of time is not the end of the order: until Stripe has answered nothing is said about charges."""
    order, _answer = hosted(client)
    end_time(order.reservation_id)
    for answer in (client.post(address(order), CONTINUE), client.get(address(order))):
        assert answer["Location"] == order.get_absolute_url()
    page = client.get(order.get_absolute_url()).content.decode()
    assert re.search(r"<h1>The time to pay is over</h1>", page)
    assert "asking Stripe" in page
    assert "not charged" not in page
    assert "Back to payment" not in page


@pytest.mark.row("P18")
def test_a_lost_payment_goes_on_on_our_page_once_stripes_is_switched_off(client, sandbox):
    order, _answer = hosted(client)
    Payment.objects.update(status="CANCELLED")
    with override_flag("hosted-checkout", active=False):
        answer = client.post(address(order), CONTINUE)
    assert answer["Location"] == address(order)
    page = client.get(address(order)).content.decode()
    assert "payment.js" in page
    assert Reservation.objects.get(pk=order.reservation_id).is_time_fixed is False


@pytest.mark.row("H13")
def test_too_many_tries_keep_the_payment_page(client, sandbox, settings):
    order, _answer = hosted(client)
    settings.RATE_LIMITS = True
    settings.SECRET_KEY = "counters of this test's own, and long enough for Django"
    settings.CHECKOUT_LIMIT_PER_ADDRESS = "1/m"
    forget()
    answers = [client.post(address(order), CONTINUE) for _ in range(3)]
    forget()
    assert answers[-1].status_code == 429
    assert int(answers[-1]["Retry-After"]) > 0
    assert "Continue to payment" in answers[-1].content.decode()
