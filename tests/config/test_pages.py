"""What all pages share: error pages, caching, cookies, content policy, the origin of forms."""

import re

import pytest
from django.test import Client

from tests.factories import ProductFactory
from tests.purchases import check_out, hold, order_of, stock_of
from ticketing.models import Ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def purchase(client) -> dict[str, str]:
    """Addresses of one purchase, by what they show."""
    product = ProductFactory(free=True)
    held = hold(product)
    other = hold(product)
    check_out(client, held.id)
    order = order_of(held.id)
    return {
        "list": "/",
        "event": product.event.get_absolute_url(),
        "basket": f"/reservations/{other.id}/",
        "details": f"/reservations/{other.id}/checkout/",
        "order": order.get_absolute_url(),
        "ticket": Ticket.objects.get().get_absolute_url(),
        "api hold": f"/api/v1/reservations/{other.id}/",
        "api order": f"/api/v1/orders/{order.code}/?secret={order.secret}",
    }


PUBLIC = ("list", "event")
PRIVATE = ("basket", "details", "order", "ticket", "api hold", "api order")
PAGES = ("list", "event", "basket", "details", "order", "ticket")


@pytest.mark.parametrize("page", PRIVATE)
def test_what_is_one_persons_is_kept_by_no_cache(client, purchase, page):
    answer = client.get(purchase[page])
    assert answer.status_code == 200
    assert {"no-store", "private"} <= set(answer["Cache-Control"].replace(" ", "").split(","))


@pytest.mark.parametrize("page", PUBLIC)
def test_catalogue_pages_can_be_kept_by_a_cache(purchase, page):
    """No cookie is set or looked at, not even a buyer's; nothing on the page differs from one visitor to the next."""
    first, second = Client(), Client()
    second.cookies["buyer"] = "A" * 22
    second.cookies["csrftoken"] = "B" * 32
    answers = [client.get(purchase[page]) for client in (first, second)]
    for answer in answers:
        assert answer.cookies == {}
        assert "Cookie" not in answer.get("Vary", "")
        assert "public" in answer["Cache-Control"]
        assert "csrfmiddlewaretoken" not in answer.content.decode()
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("page", PAGES)
def test_the_content_policy_lets_in_nothing_inline(client, purchase, page):
    answer = client.get(purchase[page])
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "nonce" not in answer["Content-Security-Policy"]
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    text = answer.content.decode()
    assert not re.search(r"<script(?![^>]*(?:src=|application/json))", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"", text)
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://testserver"}, True),
        ({}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Origin": ""}, False),
    ],
)
def test_another_site_cannot_take_stock_in_its_visitors_name(client, headers, is_taken):
    """The hold form carries no token; where it came from decides."""
    product = ProductFactory()
    answer = client.post(f"/events/{product.event.slug}/hold/", {f"quantity-{product.pk}": "1"}, headers=headers)
    assert answer.status_code == (303 if is_taken else 403)
    assert stock_of(product) == ((1, 0) if is_taken else (0, 0))


def test_the_buyers_cookie_names_nobody_and_is_not_for_scripts(client):
    """Given with the first hold, kept for the next; a made-up one is replaced."""
    product = ProductFactory()
    address, form = f"/events/{product.event.slug}/hold/", {f"quantity-{product.pk}": "1"}
    cookie = client.post(address, form).cookies["buyer"]
    assert len(cookie.value) == 22
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert client.post(address, form).cookies["buyer"].value == cookie.value
    client.cookies["buyer"] = "'; DROP TABLE"
    assert len(client.post(address, form).cookies["buyer"].value) == 22


def test_forms_of_pages_with_a_cookie_need_their_token(purchase):
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post(purchase["details"], {"name": "Ada", "email": "ada@example.org"})
    assert answer.status_code == 403
    assert answer["X-Request-ID"] in answer.content.decode()


def test_a_page_that_is_not_there_names_a_reference(client):
    answer = client.get("/nothing/", headers={"X-Request-ID": "reference-0815"})
    assert answer.status_code == 404
    assert "reference-0815" in answer.content.decode()
    assert "text/html" in answer["Content-Type"]


def test_a_page_that_broke_names_a_reference_and_nothing_else(settings, purchase):
    settings.FAILPOINTS = {"in_settle_1": "raise"}
    client = Client(raise_request_exception=False)
    form = {"name": "Ada", "email": "ada@example.org"}
    answer = client.post(purchase["details"], form, headers={"X-Request-ID": "reference-4711"})
    assert answer.status_code == 500
    text = answer.content.decode()
    assert "reference-4711" in text
    assert "FailpointReached" not in text
    assert "Traceback" not in text


def test_error_pages_escape_what_they_are_given(client):
    answer = client.get("/<script>alert(1)</script>/")
    assert "<script>alert" not in answer.content.decode()


def test_test_mode_is_said_on_every_page_and_live_mode_is_not(client, settings, purchase):
    assert "Test mode" in client.get(purchase["list"]).content.decode()
    settings.STRIPE_SECRET_KEY = "sk_live_x"
    assert "Test mode" not in client.get(purchase["list"]).content.decode()
