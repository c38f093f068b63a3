"""Setting up an event, and changing its stock while it sells (T1, H15)."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.catalogue import paid_order
from tests.factories import EventFactory, OrganiserFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import hold
from ticketing import quotas
from ticketing.models import Event, Product, Quota

EVENT = {
    "name": "Midwinter concert",
    "slug": "midwinter-concert",
    "status": "PUBLISHED",
    "starts_at_0": "2027-01-10",
    "starts_at_1": "20:00",
    "ends_at_0": "2027-01-10",
    "ends_at_1": "22:00",
    "time_zone": "Europe/Berlin",
    "currency": "eur",
    "hold_window_minutes": 15,
    "extension_minutes": 10,
}


def _no_rows(*prefixes: str) -> dict[str, Any]:
    return {f"{prefix}-{name}": 0 for prefix in prefixes for name in ("TOTAL_FORMS", "INITIAL_FORMS")}


def _event_form(event: Event, **more: Any) -> dict[str, Any]:
    return (
        EVENT | {"organiser": event.organiser_id, "slug": event.slug} | _no_rows("slots", "quotas", "products") | more
    )


def _quota_form(quota: Quota, capacity: int) -> dict[str, Any]:
    return {"name": quota.name, "slot": quota.slot_id or "", "capacity": capacity}


def _page_of(row: Any) -> str:
    return reverse(f"admin:ticketing_{row._meta.model_name}_change", args=[row.pk])


@pytest.mark.row("T1")
def test_a_new_event_in_its_own_time_zone_and_what_it_still_lacks(desk: Client) -> None:
    answer = desk.post(reverse("admin:ticketing_event_add"), EVENT | {"organiser": OrganiserFactory().pk}, follow=True)
    event = Event.objects.get()
    assert answer.redirect_chain[-1][0] == _page_of(event)
    assert event.starts_at == datetime(2027, 1, 10, 19, 0, tzinfo=UTC)
    assert event.currency == "EUR"
    text = answer.content.decode()
    assert 'value="20:00:00"' in text
    assert "It has no quota" in text


@pytest.mark.row("T1")
def test_slots_quotas_and_products_on_the_events_page(desk: Client) -> None:
    event = EventFactory(slug="concert")
    quota = QuotaFactory(event=event)
    product = {
        "name": "Seat",
        "kind": "ADMISSION",
        "price": "25.50",
        "max_per_order": 6,
        "quotas": [quota.pk],
        "entries": 1,
    }
    rows = {"TOTAL_FORMS": 1, "INITIAL_FORMS": 0} | {
        f"0-{name}": value for name, value in (product | {"position": 0}).items()
    }
    form = _event_form(event) | {f"products-{name}": value for name, value in rows.items()}
    answer = desk.post(_page_of(event), form | {"quotas-INITIAL_FORMS": 0}, follow=True)
    assert answer.redirect_chain, answer.context["errors"]
    made = Product.objects.get()
    assert (made.price_minor, list(made.quotas.all())) == (2550, [quota])


@pytest.mark.row("T1")
@pytest.mark.parametrize(
    ("currency", "typed", "minor"), [("JPY", "2500", 2500), ("KWD", "2.500", 2500), ("EUR", "0", 0)]
)
def test_prices_are_typed_in_major_units(desk: Client, currency: str, typed: str, minor: int) -> None:
    product = ProductFactory(event=EventFactory(currency=currency))
    assert desk.post(_page_of(product), _product_form(product, typed)).status_code == 302
    product.refresh_from_db()
    assert product.price_minor == minor


@pytest.mark.row("T1")
@pytest.mark.parametrize(("currency", "typed"), [("JPY", "25.50"), ("EUR", "1.005"), ("EUR", "-1")])
def test_prices_that_do_not_exist_are_refused(desk: Client, currency: str, typed: str) -> None:
    product = ProductFactory(event=EventFactory(currency=currency))
    answer = desk.post(_page_of(product), _product_form(product, typed))
    assert "price" in answer.context["adminform"].form.errors
    product.refresh_from_db()
    assert product.price_minor == 2500


def _product_form(product: Product, price: str) -> dict[str, Any]:
    chosen = [quota.pk for quota in product.quotas.all()]
    return {
        "name": product.name,
        "kind": product.kind,
        "price": price,
        "max_per_order": 10,
        "entries": 1,
        "position": 0,
        "quotas": chosen,
    }


@pytest.mark.row("T1")
def test_a_product_offers_and_takes_quotas_of_its_event_only(desk: Client) -> None:
    product, foreign = ProductFactory(), QuotaFactory(name="of somebody else")
    assert "of somebody else" not in desk.get(_page_of(product)).content.decode()
    answer = desk.post(_page_of(product), _product_form(product, "25") | {"quotas": [foreign.pk]})
    assert "quotas" in answer.context["adminform"].form.errors


@pytest.mark.row("T1")
def test_a_quota_takes_a_slot_of_its_event_only(desk: Client) -> None:
    quota, foreign = QuotaFactory(), SlotFactory()
    answer = desk.post(_page_of(quota), _quota_form(quota, 10) | {"slot": foreign.pk})
    assert "slot" in answer.context["adminform"].form.errors


@pytest.mark.row("T1")
def test_it_must_end_after_it_starts(desk: Client) -> None:
    answer = desk.post(
        reverse("admin:ticketing_event_add"), EVENT | {"organiser": OrganiserFactory().pk, "ends_at_1": "19:00"}
    )
    assert answer.context["adminform"].form.errors == {"ends_at": ["It must end after it starts."]}


@pytest.mark.row("T1")
def test_the_currency_is_settled_with_the_first_product(desk: Client) -> None:
    event = ProductFactory().event
    form = _event_form(event, currency="JPY") | {"quotas-TOTAL_FORMS": 0}
    assert "The currency stays EUR" in desk.post(_page_of(event), form).content.decode()
    event.refresh_from_db()
    assert event.currency == "EUR"


@pytest.fixture
def busy(db) -> Quota:
    """Capacity 10: three sold, two held."""
    product = ProductFactory(quotas__capacity=10)
    paid_order(product, 3)
    hold(product, 2)
    return product.quotas.get()


@pytest.mark.row("H15")
@pytest.mark.parametrize("capacity", [0, 4])
def test_the_capacity_cannot_go_below_sold_and_held(desk: Client, busy: Quota, capacity: int) -> None:
    answer = desk.post(_page_of(busy), _quota_form(busy, capacity))
    assert answer.context["adminform"].form.errors["capacity"] == [
        "5 are sold or held right now: the capacity cannot be lower than 5."
    ]
    busy.refresh_from_db()
    assert busy.capacity == 10


@pytest.mark.row("H15")
def test_the_capacity_goes_down_to_sold_and_held_and_leaves_the_counters_alone(desk: Client, busy: Quota) -> None:
    assert desk.post(_page_of(busy), _quota_form(busy, 5)).status_code == 302
    busy.refresh_from_db()
    assert (busy.capacity, busy.held, busy.sold) == (5, 2, 3)


def _lie_once(monkeypatch: pytest.MonkeyPatch, then: Any = None) -> None:
    """The form's look at the counters is out of date by the time it saves: somebody bought in between."""
    true, lies = quotas.lowest_capacity, iter([0])

    def lowest(quota_id: int) -> int:
        for lie in lies:
            return lie
        return true(quota_id)

    monkeypatch.setattr(quotas, "lowest_capacity", lowest)


@pytest.mark.row("H15")
def test_losing_the_race_is_the_same_form_error(desk: Client, busy: Quota, monkeypatch: pytest.MonkeyPatch) -> None:
    _lie_once(monkeypatch)
    answer = desk.post(_page_of(busy), _quota_form(busy, 4))
    assert answer.status_code == 200
    assert "cannot be lower than 5" in answer.content.decode()
    busy.refresh_from_db()
    assert busy.capacity == 10


@pytest.mark.row("H15")
@pytest.mark.parametrize("is_race_lost", [False, True])
def test_the_events_page_refuses_alike(
    desk: Client, busy: Quota, monkeypatch: pytest.MonkeyPatch, is_race_lost: bool
) -> None:
    if is_race_lost:
        _lie_once(monkeypatch)
    row = _quota_form(busy, 4) | {"id": busy.pk, "event": busy.event_id}
    form = _event_form(busy.event) | {"quotas-TOTAL_FORMS": 1, "quotas-INITIAL_FORMS": 1}
    answer = desk.post(_page_of(busy.event), form | {f"quotas-0-{name}": value for name, value in row.items()})
    assert answer.status_code == 200
    assert "cannot be lower than 5" in answer.content.decode()


@pytest.mark.row("H15")
def test_counters_that_moved_while_the_page_was_open_are_not_overwritten(
    desk: Client, busy: Quota, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = quotas.lowest_capacity

    def lowest(quota_id: int) -> int:
        Quota.objects.filter(pk=quota_id).update(held=3)  # a buyer, between validation and saving
        return true(quota_id)

    monkeypatch.setattr(quotas, "lowest_capacity", lowest)
    assert desk.post(_page_of(busy), _quota_form(busy, 20)).status_code == 302
    busy.refresh_from_db()
    assert (busy.capacity, busy.held) == (20, 3)


def test_the_stock_is_shown_in_words(desk: Client, busy: Quota) -> None:
    """H15: the bar on the quota's page."""
    text = re.sub(r"\s+", " ", desk.get(_page_of(busy)).content.decode())
    assert "3 sold · 2 held · 5 free of 10" in text
