"""`Idempotency-Key` on a hold, exactly as the contract says."""

import pytest

from reservations import holds
from reservations.models import Reservation, ReservationKey
from tests.factories import EventFactory, ProductFactory
from tests.purchases import ask, check_out, end_time, line, stock_of

pytestmark = pytest.mark.django_db

KEY = "a-key-of-20-letters!"


@pytest.mark.row("P3", "HC-A1")
def test_hc_a1_the_same_key_gives_the_same_hold_and_no_more_time(client):
    """HC-A1: 200, marked as replayed, and the time is not extended."""
    product = ProductFactory()
    first = ask(client, product.event.slug, [line(product, 2)], key=KEY)
    again = ask(client, product.event.slug, [line(product, 2)], key=KEY)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again["Idempotent-Replayed"] == "true"
    for name in ("id", "expires_at", "lines", "total"):
        assert again.json()[name] == first.json()[name]
    assert stock_of(product) == (2, 0)


@pytest.mark.row("HC-A3")
def test_hc_a3_lines_in_another_order_are_the_same_request(client):
    """HC-A3: nor does it matter whether a quantity comes in one line or in two."""
    event = EventFactory()
    one, other = ProductFactory(event=event), ProductFactory(event=event)
    first = ask(client, event.slug, [line(one, 2), line(other, 1)], key=KEY)
    for lines in ([line(other, 1), line(one, 2)], [line(one, 1), line(other, 1), line(one, 1)]):
        again = ask(client, event.slug, lines, key=KEY)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


@pytest.mark.row("HC-A3")
def test_hc_a3_the_same_key_for_another_request_changes_nothing(client):
    """HC-A3: other quantity, other product, other event: 422, also once the first hold has ended."""
    product, other = ProductFactory(), ProductFactory()
    first = ask(client, product.event.slug, [line(product)], key=KEY).json()
    attempts = [
        (product.event.slug, [line(product, 2)]),
        (product.event.slug, [line(product), line(product)]),
        (other.event.slug, [line(other)]),
        ("no-such-event", [line(product)]),
    ]
    for moment in ("alive", "ended"):
        for event, lines in attempts:
            answer = ask(client, event, lines, key=KEY)
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused"), moment
        end_time(first["id"])
    assert stock_of(product) == (1, 0)
    assert stock_of(other) == (0, 0)


@pytest.mark.row("HC-A2")
@pytest.mark.parametrize("ending", ["expired", "swept", "released"])
def test_hc_a2_the_key_of_an_ended_hold_gets_a_new_one(client, ending):
    """HC-A2: the old hold stays as it ended; the key is bound to the new one from then on."""
    product = ProductFactory(quotas__capacity=1)
    first = ask(client, product.event.slug, [line(product)], key=KEY).json()["id"]
    if ending == "released":
        client.delete(f"/api/v1/reservations/{first}/")
    else:
        end_time(first)
    if ending == "swept":
        holds.release_expired()
    second = ask(client, product.event.slug, [line(product)], key=KEY)
    assert second.status_code == 201
    assert second.json()["id"] != first
    replay = ask(client, product.event.slug, [line(product)], key=KEY)
    assert (replay.status_code, replay.json()["id"]) == (200, second.json()["id"])
    assert Reservation.objects.get(pk=first).status == ("RELEASED" if ending == "released" else "EXPIRED")
    assert stock_of(product) == (1, 0)


@pytest.mark.row("HC-A2")
def test_hc_a2_the_key_of_an_ended_hold_is_told_sold_out_when_the_seat_is_gone(client):
    """HC-A2: the refusal leaves the key with the ended hold, so a later try may still succeed."""
    product = ProductFactory(quotas__capacity=1)
    first = ask(client, product.event.slug, [line(product)], key=KEY).json()["id"]
    client.delete(f"/api/v1/reservations/{first}/")
    rival = ask(client, product.event.slug, [line(product)]).json()["id"]
    refused = ask(client, product.event.slug, [line(product)], key=KEY)
    assert refused.json()["code"] == "sold_out"
    client.delete(f"/api/v1/reservations/{rival}/")
    assert ask(client, product.event.slug, [line(product)], key=KEY).status_code == 201


@pytest.mark.row("HC-A2")
def test_hc_a2_an_ordered_reservation_past_its_time_still_replays(client):
    """HC-A2: it may be being paid; only Stripe's answer ends it."""
    product = ProductFactory(quotas__capacity=1)
    first = ask(client, product.event.slug, [line(product)], key=KEY).json()["id"]
    Reservation.objects.filter(pk=first).update(status="ORDERED")
    end_time(first)
    answer = ask(client, product.event.slug, [line(product)], key=KEY)
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (200, first, "ordered")
    assert ask(client, product.event.slug, [line(product)]).json()["code"] == "sold_out"


@pytest.mark.row("HC-A1", "T2")
def test_hc_a1_a_confirmed_reservation_replays_for_ever(client):
    product = ProductFactory(free=True)
    first = ask(client, product.event.slug, [line(product)], key=KEY).json()["id"]
    assert check_out(client, first).status_code == 201
    end_time(first, seconds=3600)
    answer = ask(client, product.event.slug, [line(product)], key=KEY)
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (200, first, "confirmed")


@pytest.mark.row("HC-A3")
def test_a_refusal_binds_nothing(client):
    """The contract: after any 4xx the key is free, for another request too."""
    product = ProductFactory(quotas__capacity=1)
    for lines in ([line(product, 2)], [line(product, 999)], [{"product": 1_000_000, "quantity": 1}]):
        assert ask(client, product.event.slug, lines, key=KEY).status_code in (400, 409)
    assert not ReservationKey.objects.exists()
    assert ask(client, product.event.slug, [line(product, 1)], key=KEY).status_code == 201


@pytest.mark.row("P3")
@pytest.mark.parametrize(("length", "status"), [(15, 400), (16, 201), (255, 201), (256, 400)])
def test_a_key_has_16_to_255_characters(client, length, status):
    product = ProductFactory()
    answer = ask(client, product.event.slug, [line(product)], key="k" * length)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["code"] == "invalid"
        assert list(answer.json()["fields"]) == ["Idempotency-Key"]
        assert not Reservation.objects.exists()


@pytest.mark.row("P3")
def test_keys_are_compared_as_they_are(client):
    """Keys that differ in case or in a blank inside are different keys."""
    product = ProductFactory()
    ids = {ask(client, product.event.slug, [line(product)], key=key).json()["id"] for key in (KEY, KEY.upper())}
    assert len(ids) == 2
