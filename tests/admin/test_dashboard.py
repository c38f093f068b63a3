"""The first numbers on the index (M7)."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import heartbeats
from monitoring.models import Heartbeat
from reservations.models import Order
from tests.admin.catalogue import paid_order, unpaid_order, webhook_event
from tests.factories import EventFactory, ProductFactory
from tests.purchases import end_time, hold
from ticketing.models import OutgoingEmail

pytestmark = pytest.mark.row("M7")


def _cards(desk: Client) -> dict[str, Any]:
    return {card.title: card for group in desk.get("/admin/").context["card_groups"] for card in group.cards}


def test_an_empty_office(desk: Client) -> None:
    cards = _cards(desk)
    assert (cards["Orders paid today"].value, cards["Tickets issued"].value, cards["Live holds"].value) == (
        "0",
        "0",
        "0",
    )
    assert cards["Schedule and workers"].level == "bad"


def test_sales_per_currency(desk: Client) -> None:
    paid_order(ProductFactory(price_minor=2550), 2)
    paid_order(ProductFactory(event=EventFactory(currency="JPY"), price_minor=3000))
    earlier = paid_order(ProductFactory(), 3)
    Order.objects.filter(pk=earlier.pk).update(paid_at=timezone.now() - timedelta(days=3))
    cards = _cards(desk)
    assert (cards["Orders paid today"].value, cards["Orders paid in 7 days"].value) == ("2", "3")
    assert "€51.00" in cards["Orders paid today"].note
    assert "3,000" in cards["Orders paid today"].note
    assert "€126.00" in cards["Orders paid in 7 days"].note
    assert cards["Tickets issued"].value == "6"


def test_holds_and_orders_that_are_stuck(desk: Client) -> None:
    product = ProductFactory()
    hold(product, 2)
    hold(product, 3)
    end_time(hold(product).id, seconds=600)
    order = unpaid_order(product)
    cards = _cards(desk)
    assert (cards["Live holds"].value, cards["Live holds"].note) == ("3", "6 units held")
    assert cards["Holds not yet released"].value == "1"
    assert (cards["Orders awaiting payment"].value, cards["Orders awaiting payment"].level) == ("1", "")
    end_time(order.reservation_id, seconds=600)
    assert _cards(desk)["Orders awaiting payment"].level == "bad"


def test_what_is_red_links_to_the_rows(desk: Client) -> None:
    order = paid_order(ProductFactory())
    Order.objects.update(needs_review="paid 1 EUR instead of 2500 EUR")
    OutgoingEmail.objects.update(status="DEAD")
    webhook_event(1, status="DEAD")
    webhook_event(2, status="PROCESSED")
    cards = _cards(desk)
    for title in ("Orders to look at", "Given up", "Dead"):
        assert (cards[title].value, cards[title].level) == ("1", "bad")
        listed = desk.get(cards[title].url).context["cl"].result_list
        assert len(listed) == 1
    assert desk.get(cards["Orders to look at"].url).context["cl"].result_list[0] == order


def test_the_heartbeats_age(desk: Client) -> None:
    heartbeats.beat("beat")
    assert _cards(desk)["Schedule and workers"].level == "good"
    Heartbeat.objects.update(at=timezone.now() - timedelta(minutes=3))
    assert _cards(desk)["Schedule and workers"].level == "bad"


def test_warnings_say_what_no_shop_may_say(desk: Client, settings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_offline"
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    assert [text.split(":")[0] for text in desk.get("/admin/").context["warnings"]] == [
        "Stripe is in test mode",
        "No mail provider is set",
    ]
    settings.STRIPE_SECRET_KEY = "sk_live_x"
    settings.EMAIL_BACKEND = "anymail.backends.resend.EmailBackend"
    assert desk.get("/admin/").context["warnings"] == []


def test_the_numbers_cost_the_same_whatever_was_sold(desk: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            desk.get("/admin/")
        return len(captured)

    queries()
    before = queries()
    for _number in range(3):
        paid_order(ProductFactory())
    assert queries() == before
