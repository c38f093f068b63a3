"""What a request for a hold is answered, and what it takes."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from reservations import availability, holds
from reservations.models import Claim, Reservation, StatusChange
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import ask, counters, end_time, hold, line, recount, stock_of
from ticketing.models import Product

pytestmark = pytest.mark.django_db


@pytest.mark.row("H1")
def test_a_hold_takes_stock_and_says_until_when(client):
    """H1: the answer has the shape of the contract, and the stock is taken at once."""
    product = ProductFactory(price_minor=1999, event__hold_window_minutes=5)
    answer = ask(client, product.event.slug, [line(product, 3)])
    body = answer.json()
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer
    assert body["status"] == "active"
    assert body["lines"] == [
        {
            "product": product.pk,
            "slot": None,
            "quantity": 3,
            "unit_price": {"amount_minor": 1999, "currency": "EUR"},
            "discount": {"amount_minor": 0, "currency": "EUR"},
            "total": {"amount_minor": 5997, "currency": "EUR"},
        }
    ]
    assert body["total"] == {"amount_minor": 5997, "currency": "EUR"}
    assert body["can_extend"] is True
    assert body["checkout_url"] == f"http://testserver/reservations/{body['id']}/checkout/"
    stored = Reservation.objects.get(pk=body["id"])
    assert stored.expires_at - stored.created_at == timedelta(minutes=5)
    assert stock_of(product) == (3, 0)


@pytest.mark.row("H1")
def test_several_lines_are_taken_all_or_not_at_all(client):
    """H1: one line without room refuses the others too, and only that line is named."""
    event = EventFactory()
    plenty, scarce = ProductFactory(event=event), ProductFactory(event=event, quotas__capacity=1)
    answer = ask(client, event.slug, [line(plenty, 2), line(scarce, 2)])
    assert answer.status_code == 409
    body = answer.json()
    assert body["code"] == "sold_out"
    assert body["lines"] == [{"product": scarce.pk, "slot": None, "requested": 2, "available": 1}]
    assert (stock_of(plenty), stock_of(scarce)) == ((0, 0), (0, 0))
    assert not Reservation.objects.exists()
    assert ask(client, event.slug, [line(plenty, 2), line(scarce, 1)]).status_code == 201


@pytest.mark.row("H2")
def test_every_quota_of_a_product_must_have_room(client):
    """H2: a tier of 3 in a house of 4: neither can be passed, and the house counts both tiers."""
    event = EventFactory()
    house = QuotaFactory(event=event, capacity=4)
    first, second = (ProductFactory(event=event, quotas=[QuotaFactory(event=event, capacity=3), house]) for _ in "ab")
    assert ask(client, event.slug, [line(first, 4)]).status_code == 409
    assert ask(client, event.slug, [line(first, 3)]).status_code == 201
    refusal = ask(client, event.slug, [line(second, 2)])
    assert refusal.json()["lines"] == [{"product": second.pk, "slot": None, "requested": 2, "available": 1}]
    assert counters(house) == (3, 0)
    together = ask(client, event.slug, [line(second, 1)])
    assert together.status_code == 201
    assert counters(house) == recount(house) == (4, 0)


@pytest.mark.row("H1", "H2")
def test_two_lines_on_one_quota_are_added_up_before_they_are_judged(client):
    """H1, H2: 2 + 2 of two products that share a stock of 3 do not fit, though each alone would."""
    event = EventFactory()
    shared = QuotaFactory(event=event, capacity=3)
    adult, child = ProductFactory(event=event, quotas=[shared]), ProductFactory(event=event, quotas=[shared])
    answer = ask(client, event.slug, [line(adult, 2), line(child, 2)])
    assert answer.status_code == 409
    assert {entry["available"] for entry in answer.json()["lines"]} == {3}
    assert counters(shared) == (0, 0)


@pytest.mark.row("H2")
def test_what_a_line_took_is_written_down_as_claims():
    """H2: giving back reads the claims, never the mapping of today."""
    event = EventFactory()
    tier, house = QuotaFactory(event=event), QuotaFactory(event=event)
    product = ProductFactory(event=event, quotas=[tier, house])
    held = hold(product, 2)
    assert set(Claim.objects.values_list("quota", "quantity")) == {(tier.pk, 2), (house.pk, 2)}
    product.quotas.set([house])
    assert holds.release(held.id) is True
    assert (counters(tier), counters(house)) == ((0, 0), (0, 0))


@pytest.mark.row("H1")
def test_the_same_product_named_twice_is_one_line(client):
    """H1: duplicates are added up, also against the limit per order."""
    product = ProductFactory(max_per_order=4)
    granted = ask(client, product.event.slug, [line(product, 1), line(product, 2)])
    assert [entry["quantity"] for entry in granted.json()["lines"]] == [3]
    refused = ask(client, product.event.slug, [line(product, 2), line(product, 3)])
    assert refused.json()["code"] == "limit_exceeded"


@pytest.mark.row("H1", "H2")
def test_products_with_slots_are_held_at_one_of_their_slots(client):
    """H2: a slot is required, must be one of the product's, and has a stock of its own."""
    event = EventFactory()
    morning, evening, unsold = (SlotFactory(event=event) for _ in range(3))
    quotas = [QuotaFactory(event=event, slot=slot, capacity=2) for slot in (morning, evening)]
    product = ProductFactory(event=event, quotas=quotas)
    missing = ask(client, event.slug, [line(product)])
    assert (missing.status_code, missing.json()["code"]) == (400, "invalid")
    assert missing.json()["fields"]["lines"] == [{"line": 0, "field": "slot", "mistake": "required"}]
    unknown = ask(client, event.slug, [line(product, slot=unsold)])
    assert unknown.json()["fields"]["lines"] == [{"line": 0, "field": "slot", "mistake": "unknown"}]
    assert ask(client, event.slug, [line(product, 2, morning)]).status_code == 201
    full = ask(client, event.slug, [line(product, 1, evening), line(product, 1, morning)])
    assert full.json()["lines"] == [{"product": product.pk, "slot": morning.pk, "requested": 1, "available": 0}]
    assert [counters(quota) for quota in quotas] == [(2, 0), (0, 0)]


@pytest.mark.row("H1")
def test_products_without_slots_take_none(client):
    event = EventFactory()
    product, slot = ProductFactory(event=event), SlotFactory(event=event)
    answer = ask(client, event.slug, [line(product, slot=slot)])
    assert answer.json()["fields"]["lines"] == [{"line": 0, "field": "slot", "mistake": "unknown"}]


@pytest.mark.row("H1")
def test_another_events_product_is_unknown_here(client):
    mine, other = ProductFactory(), ProductFactory()
    answer = ask(client, mine.event.slug, [line(mine), line(other)])
    assert answer.status_code == 400
    assert answer.json()["fields"]["lines"] == [{"line": 1, "field": "product", "mistake": "unknown"}]
    assert stock_of(mine) == (0, 0)


@pytest.mark.row("H1")
def test_drafts_do_not_exist_for_buyers(client):
    product = ProductFactory(event=EventFactory(draft=True))
    unknown = ask(client, "no-such-event", [line(product)])
    draft = ask(client, product.event.slug, [line(product)])
    assert (draft.status_code, draft.json()) == (unknown.status_code, unknown.json())
    assert draft.status_code == 400


CLOSED = {
    "stopped by staff": {"is_stopped": True},
    "before its sale": {"sale_starts_at": Now() + timedelta(seconds=30)},
    "after its sale": {"sale_ends_at": Now()},
    "of a cancelled event": {"event__cancelled": True},
    "of a past event": {"event__past": True},
    "without a quota": {"quotas": []},
}


@pytest.mark.row("H1", "T1")
@pytest.mark.parametrize("case", CLOSED)
def test_not_on_sale_is_told_from_sold_out(client, case):
    """H1: nothing is taken, and the line that is not on sale is named."""
    product = ProductFactory(**CLOSED[case])
    answer = ask(client, product.event.slug, [line(product)])
    assert answer.status_code == 409
    assert answer.json()["code"] == "not_on_sale"
    assert answer.json()["lines"] == [{"product": product.pk, "slot": None}]
    assert not Reservation.objects.exists()


@pytest.mark.row("H4")
def test_the_sale_opens_and_closes_by_the_clock_of_the_database(client):
    """H4: moved by UPDATE alone, no process is told."""
    product = ProductFactory(sale_starts_at=Now() + timedelta(minutes=1))
    assert ask(client, product.event.slug, [line(product)]).json()["code"] == "not_on_sale"
    Product.objects.update(sale_starts_at=Now())
    assert ask(client, product.event.slug, [line(product)]).status_code == 201
    Product.objects.update(sale_ends_at=Now())
    assert ask(client, product.event.slug, [line(product)]).json()["code"] == "not_on_sale"


@pytest.mark.row("H1")
def test_a_slot_that_is_over_is_not_on_sale_while_a_later_one_is(client):
    event = EventFactory()
    over = SlotFactory(event=event, starts_at=Now() - timedelta(hours=2), ends_at=Now() - timedelta(hours=1))
    later = SlotFactory(event=event)
    quotas = [QuotaFactory(event=event, slot=slot) for slot in (over, later)]
    product = ProductFactory(event=event, quotas=quotas)
    refused = ask(client, event.slug, [line(product, 1, over)])
    assert (refused.json()["code"], refused.json()["lines"][0]["slot"]) == ("not_on_sale", over.pk)
    assert ask(client, event.slug, [line(product, 1, later)]).status_code == 201


@pytest.mark.row("H1")
def test_more_than_one_order_may_contain_is_refused_with_the_limit(client):
    """H1: the limit counts a product over all its slots."""
    event = EventFactory()
    slots = [SlotFactory(event=event) for _ in range(2)]
    quotas = [QuotaFactory(event=event, slot=slot) for slot in slots]
    product = ProductFactory(event=event, quotas=quotas, max_per_order=3)
    answer = ask(client, event.slug, [line(product, 2, slot) for slot in slots])
    assert answer.status_code == 409
    assert answer.json()["code"] == "limit_exceeded"
    assert answer.json()["lines"] == [{"product": product.pk, "requested": 4, "max_per_order": 3}]
    assert [counters(quota) for quota in quotas] == [(0, 0), (0, 0)]


@pytest.mark.row("HC-K3")
def test_hc_k3_the_price_of_the_moment_of_the_hold_stays(client):
    """HC-K3: a later change of the product changes neither the hold nor what is asked for it."""
    product = ProductFactory(price_minor=2500)
    held = hold(product, 2)
    Product.objects.filter(pk=product.pk).update(price_minor=9900)
    body = client.get(f"/api/v1/reservations/{held.id}/").json()
    assert body["total"]["amount_minor"] == 5000
    assert ask(client, product.event.slug, [line(product)]).json()["total"]["amount_minor"] == 9900


@pytest.mark.row("HC-K5")
def test_hc_k5_a_hold_outlives_the_end_of_the_sale(client):
    """HC-K5: the sale closes after the hold; the hold stays and can be ordered."""
    product = ProductFactory(free=True)
    held = hold(product)
    Product.objects.filter(pk=product.pk).update(sale_ends_at=Now())
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["status"] == "active"
    address = f"/api/v1/reservations/{held.id}/checkout/"
    done = client.post(address, {"email": "a@example.org", "name": "A"}, content_type="application/json")
    assert done.status_code == 201
    assert done.json()["order"]["status"] == "paid"


UNREADABLE = [
    {},
    {"event": "x"},
    {"event": "x", "lines": []},
    {"event": "x", "lines": {}},
    {"event": "x", "lines": [{"product": 1, "quantity": 0}]},
    {"event": "x", "lines": [{"product": 1, "quantity": -1}]},
    {"event": "x", "lines": [{"product": 1, "quantity": 1.5}]},
    {"event": "x", "lines": [{"product": 1, "quantity": 10**12}]},
    {"event": "x", "lines": [{"product": 2**64, "quantity": 1}]},
    {"event": "x", "lines": [{"product": 1, "slot": 2**64, "quantity": 1}]},
    {"event": "x", "lines": [{"product": "1; DROP TABLE", "quantity": 1}]},
    {"event": "x", "lines": [{"product": 1, "quantity": 1}] * 51},
    {"event": "x\0", "lines": [{"product": 1, "quantity": 1}]},
    {"event": "\ud800", "lines": [{"product": 1, "quantity": 1}]},
    {"event": "x", "lines": [{"product": 1, "quantity": 1}], "promo_code": "FREE"},
    [],
    "text",
    None,
]


@pytest.mark.row("H1")
@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_a_request_is_answered_invalid(client, body):
    """The contract: 400 `invalid` with `fields`, never a 500."""
    answer = client.post("/api/v1/reservations/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"
    assert "fields" in answer.json()


@pytest.mark.row("H1")
def test_a_hold_leaves_no_trace_of_a_refusal():
    product = ProductFactory(quotas__capacity=1)
    with pytest.raises(holds.SoldOut):
        hold(product, 2)
    assert not Reservation.objects.exists()
    assert not Claim.objects.exists()
    assert not StatusChange.objects.exists()


@pytest.mark.row("H1")
def test_a_reservation_is_found_by_its_id_alone(client):
    held = hold(ProductFactory())
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["id"] == str(held.id)
    absent = "/api/v1/reservations/00000000-0000-4000-8000-000000000000/"
    for method in (client.get, client.delete):
        assert method(absent).status_code == 404
        assert method(absent).json()["code"] == "not_found"
    assert client.post(f"{absent}extend/").status_code == 404


@pytest.mark.row("H1")
@pytest.mark.parametrize(
    "form",
    [
        {"quantity-{}": "1", "slot-{}": "9" * 30},
        {"quantity-{}": "9" * 30},
        {"quantity-{}": "-1"},
        {"quantity-{}": "one"},
        {"quantity-x": "1"},
        {"quantity-{}": "1", "slot-{}": "x"},
        {"quantity-{}": "0"},
        {},
    ],
    ids=range(8),
)
def test_the_hold_form_answers_nonsense_with_the_page_and_a_reason(client, form):
    """H1: the page without JavaScript: 400 with the choice shown again, nothing taken."""
    product = ProductFactory()
    posted = {name.format(product.pk): value for name, value in form.items()}
    answer = client.post(f"/events/{product.event.slug}/hold/", posted)
    assert answer.status_code == 400
    assert product.name in answer.content.decode()
    assert stock_of(product) == (0, 0)


@pytest.mark.django_db
@pytest.mark.row("T1")
def test_a_sale_never_outlasts_its_event_or_slot():
    """A sale window that staff set too long ends with what it sells."""
    later = timezone.now() + timedelta(days=30)
    past = ProductFactory(event=EventFactory(past=True), sale_ends_at=later)
    with pytest.raises(holds.NotOnSale):
        holds.reserve(past.event.slug, lines=[holds.Wanted(past.pk, None, 1)])
    slot = SlotFactory(starts_at=timezone.now() - timedelta(hours=3))
    product = ProductFactory(event=slot.event, sale_ends_at=later, quotas=[QuotaFactory(event=slot.event, slot=slot)])
    with pytest.raises(holds.NotOnSale):
        holds.reserve(slot.event.slug, lines=[holds.Wanted(product.pk, slot.pk, 1)])
    [offer] = availability.offers(slot.event)
    assert offer.state == "ended"


@pytest.mark.row("H4", "HC-A10")
def test_hc_a10_a_seat_behind_many_other_ended_holds_is_found():
    """HC-A10: only what blocks this wish is taken back, however many others have ended before."""
    event = EventFactory()
    house, tier = QuotaFactory(event=event, capacity=2_000), QuotaFactory(event=event, capacity=1)
    other, product = ProductFactory(event=event, quotas=[house]), ProductFactory(event=event, quotas=[tier, house])
    for _ in range(650):
        hold(other)
    Reservation.objects.update(expires_at="2020-01-01T00:00:00Z")
    end_time(hold(product).id)
    assert hold(product).is_live


@pytest.mark.row("H2")
@pytest.mark.parametrize("in_company", [True, False])
def test_a_product_whose_only_quota_is_another_events_is_not_on_sale(in_company):
    event = EventFactory()
    good, odd = ProductFactory(event=event), ProductFactory(event=event, quotas=[QuotaFactory(capacity=1)])
    lines = [holds.Wanted(odd.pk, None, 5)] + [holds.Wanted(good.pk, None, 1)] * in_company
    with pytest.raises(holds.NotOnSale):
        holds.reserve(event.slug, lines=lines)


def test_no_lines_are_no_request():
    with pytest.raises(holds.InvalidLines):
        holds.reserve(EventFactory().slug, lines=[])
