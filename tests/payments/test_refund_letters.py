"""The letters about money that goes back and tickets that came late: the same facts in text and HTML."""

import re

import pytest
from django.core import mail

from payments import expiry, settlement, truth
from payments.models import Payment
from tests.factories import ProductFactory
from tests.purchases import check_out, end_time, hold, ordered
from ticketing import emails

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("T6")]


def pay(sandbox, payment: Payment) -> None:
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")


def released(client, **product):
    product = ProductFactory(quotas__capacity=1, event__name="Tom & Jerry", **product)
    order, payment = ordered(client, product)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    return product, order, payment


def letters() -> list[tuple[str, str, str]]:
    """(subject, text, words of the HTML) of all letters, sent as the worker sends them."""
    emails.send_due()
    told = []
    for letter in mail.outbox:
        html = re.sub(r"<style>.*?</style>|<[^>]+>", " ", letter.alternatives[0][0], flags=re.DOTALL)
        told.append((letter.subject, letter.body, " ".join(html.split())))
    return told


@pytest.mark.row("HC-D2", "P10")
def test_hc_d2_the_letter_of_late_money(client, sandbox):
    """HC-D2: an apology with amount, reference and a link to the order."""
    product, order, payment = released(client)
    hold(product)
    pay(sandbox, payment)
    [(subject, text, html)] = letters()
    assert subject == "We are refunding €25.00: Tom & Jerry"
    for said in (text, html):
        assert "We are sorry" in said
        assert "refunding €25.00 in full" in said
        assert order.code in said
        assert "Hello Ada Lovelace" in said
    assert order.get_absolute_url() in text
    assert order.get_absolute_url() in mail.outbox[0].alternatives[0][0]
    assert "Tom & Jerry" in text
    assert "Tom &amp; Jerry" in html


@pytest.mark.row("HC-D1")
def test_hc_d1_late_tickets_say_that_they_were_lucky(client, sandbox):
    """HC-D1: the confirmation with one more sentence."""
    _product, _order, payment = released(client)
    pay(sandbox, payment)
    [(subject, text, html)] = letters()
    assert subject == "Your ticket for Tom & Jerry"
    for said in (text, html):
        assert "hold had run out before your payment came, but there was still room" in said


@pytest.mark.row("HC-B10")
def test_hc_b10_the_letter_of_a_second_payment(client, sandbox):
    """HC-B10: one with the ticket, one about the money."""
    order, first = ordered(client, ProductFactory())
    Payment.objects.filter(pk=first.pk).update(status="CANCELLED")
    check_out(client, order.reservation_id)
    for payment in order.payments.order_by("-attempt"):
        pay(sandbox, payment)
    _confirmation, (_subject, text, html) = letters()
    for said in (text, html):
        assert "was paid twice" in said
        assert "€25.00" in said
        assert "Your tickets are not affected" in said


@pytest.mark.row("HC-B8")
def test_hc_b8_the_letter_names_both_amounts(client, sandbox):
    """HC-B8: what was paid, and what it costs."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.modify(payment.stripe_payment_intent_id, amount=payment.amount_minor - 1)
    pay(sandbox, payment)
    [(_subject, text, html)] = letters()
    for said in (text, html):
        assert "€24.99" in said
        assert "€25.00" in said
        assert order.code in said
