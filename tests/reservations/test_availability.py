"""What buyers are told is free: numbers, words, and how it is cached."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import end_time, hold
from ticketing.models import Event

pytestmark = pytest.mark.django_db


def told(client, event):
    answer = client.get(f"/api/v1/events/{event.slug}/availability/")
    assert answer.status_code == 200
    return [(entry["id"], entry["slot"], entry["available"], entry["state"]) for entry in answer.json()["products"]]


@pytest.mark.row("H1", "H2")
@pytest.mark.parametrize(
    ("capacity", "taken", "available", "state"),
    [
        (100, 0, 100, "available"),
        (100, 89, 11, "available"),
        (100, 90, 10, "low"),
        (40, 31, 9, "available"),
        (40, 32, 8, "low"),
        (10, 9, 1, "low"),
        (10, 10, 0, "sold_out"),
        (0, 0, 0, "sold_out"),
    ],
)
def test_numbers_become_words(client, capacity, taken, available, state):
    """H1: "low" means at most ten and at most a fifth."""
    product = ProductFactory(quotas__capacity=capacity, max_per_order=100)
    if taken:
        hold(product, taken)
    assert told(client, product.event) == [(product.pk, None, available, state)]


@pytest.mark.row("H2")
def test_the_scarcest_quota_decides(client):
    event = EventFactory()
    house = QuotaFactory(event=event, capacity=100)
    products = [ProductFactory(event=event, quotas=[QuotaFactory(event=event, capacity=n), house]) for n in (30, 200)]
    assert [entry[2] for entry in told(client, event)] == [30, 100]
    hold(products[1], 10)
    assert [entry[2] for entry in told(client, event)] == [30, 90]


@pytest.mark.row("H2")
def test_slots_are_told_one_by_one_and_share_what_counts_over_all(client):
    event = EventFactory()
    slots = [SlotFactory(event=event) for _ in range(2)]
    house = QuotaFactory(event=event, capacity=15)
    quotas = [QuotaFactory(event=event, slot=slot, capacity=10) for slot in slots]
    product = ProductFactory(event=event, quotas=[*quotas, house])
    hold(product, 8, slot=slots[0])
    assert [(slot, n) for _id, slot, n, _state in told(client, event)] == [(slots[0].pk, 2), (slots[1].pk, 7)]


@pytest.mark.row("H1")
def test_what_cannot_be_bought_says_so(client):
    """H1: not_on_sale and ended, by the database's clock; a product without quota has nothing."""
    event = EventFactory()
    cases = {
        ProductFactory(event=event, is_stopped=True): "not_on_sale",
        ProductFactory(event=event, sale_starts_at=Now() + timedelta(minutes=1)): "not_on_sale",
        ProductFactory(event=event, quotas=[]): "not_on_sale",
        ProductFactory(event=event, sale_ends_at=Now()): "ended",
        ProductFactory(event=event): "available",
    }
    assert {(product, state) for product, _slot, _n, state in told(client, event)} == {
        (product.pk, state) for product, state in cases.items()
    }
    Event.objects.filter(pk=event.pk).update(starts_at=Now() - timedelta(hours=2), ends_at=Now())
    assert {state for *_rest, state in told(client, event)} == {"ended"}


@pytest.mark.row("H1", "H4")
def test_the_same_answer_is_304_and_another_one_is_not(client):
    """The contract: `ETag`, `Cache-Control: public, max-age=1`, and 304 with If-None-Match."""
    product = ProductFactory()
    address = f"/api/v1/events/{product.event.slug}/availability/"
    first = client.get(address)
    assert first["Cache-Control"] == "public, max-age=1"
    again = client.get(address, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    weak = client.get(address, headers={"If-None-Match": f'"other", W/{first["ETag"]}'})
    assert weak.status_code == 304
    held = hold(product)
    changed = client.get(address, headers={"If-None-Match": first["ETag"]})
    assert (changed.status_code, changed.json()["products"][0]["available"]) == (200, 9)
    end_time(held.id)
    assert client.get(address, headers={"If-None-Match": first["ETag"]}).status_code == 304


@pytest.mark.row("H1")
def test_an_event_without_products_has_an_answer_too(client):
    event = EventFactory()
    answer = client.get(f"/api/v1/events/{event.slug}/availability/")
    assert (answer.status_code, answer.json()["products"]) == (200, [])
    assert answer.json()["as_of"]


@pytest.mark.row("H1")
@pytest.mark.parametrize("status", ["DRAFT", "CANCELLED"])
def test_what_is_not_published_is_404_everywhere(client, status):
    event = ProductFactory(event__status=status).event
    for address in (
        f"/api/v1/events/{event.slug}/",
        f"/api/v1/events/{event.slug}/availability/",
        f"/events/{event.slug}/",
    ):
        assert client.get(address).status_code == 404
    assert client.get("/api/v1/events/").json()["results"] == []


@pytest.mark.row("H1", "T1")
def test_the_event_is_described_with_its_products_and_slots(client):
    event = EventFactory(currency="KWD")
    slot = SlotFactory(event=event)
    quota = QuotaFactory(event=event, slot=slot, capacity=50)
    product = ProductFactory(event=event, five_classes=True, price_minor=1250, quotas=[quota])
    body = client.get(f"/api/v1/events/{event.slug}/").json()
    assert body["organiser"] == {"slug": event.organiser.slug, "name": event.organiser.name}
    described = body["products"][0]
    assert described["id"] == product.pk
    assert described["kind"] == "pass"
    assert described["state"] == "available"
    assert described["price"] == {"amount_minor": 1250, "currency": "KWD"}
    assert [entry["id"] for entry in described["slots"]] == [slot.pk]


@pytest.mark.row("H1")
def test_past_events_are_not_listed_and_lists_have_pages(client, django_assert_max_num_queries):
    """The contract: `{"results", "next"}`; 51 events on two pages, a past one on none."""
    first = EventFactory()
    for _ in range(50):
        EventFactory(organiser=first.organiser)
    EventFactory(past=True, organiser=first.organiser)
    with django_assert_max_num_queries(1):
        page = client.get("/api/v1/events/").json()
    assert len(page["results"]) == 50
    last = client.get(page["next"]).json()
    assert (len(last["results"]), last["next"]) == (1, None)


@pytest.mark.row("H1")
@pytest.mark.parametrize("address", ["/api/v1/events/{}/availability/", "/api/v1/events/{}/", "/events/{}/"])
def test_more_products_cost_no_more_queries(client, address):
    """Catalogue pages at one and at three products, each with a slot: the same number of queries."""
    event = EventFactory()
    path = address.format(event.slug)
    counts = []
    for more in (1, 2):
        for _ in range(more):
            ProductFactory(event=event, quotas=[QuotaFactory(event=event, slot=SlotFactory(event=event))])
        with CaptureQueriesContext(connection) as queries:
            assert client.get(path).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
