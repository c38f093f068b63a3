"""Time, extension, release and sweep: how a hold ends, and what it gives back."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from reservations import holds
from reservations.models import Reservation, StatusChange
from tests.factories import EventFactory, ProductFactory, QuotaFactory
from tests.purchases import ask, counters, end_time, hold, line, recount, stock_of

pytestmark = pytest.mark.django_db


@pytest.mark.row("H4", "HC-A10")
def test_hc_a10_a_hold_past_its_time_costs_nobody_a_seat(client):
    """HC-A10: no sweeper runs; the next buyer's call takes the seat back and gets it."""
    product = ProductFactory(quotas__capacity=1)
    first = hold(product)
    assert ask(client, product.event.slug, [line(product)]).json()["code"] == "sold_out"
    end_time(first.id)
    assert ask(client, product.event.slug, [line(product)]).status_code == 201
    assert Reservation.objects.get(pk=first.id).status == "EXPIRED"
    assert stock_of(product) == (1, 0)
    change = StatusChange.objects.get(object_id=str(first.id))
    assert (change.from_status, change.to_status, change.by) == ("ACTIVE", "EXPIRED", "buyer")


@pytest.mark.row("H4")
def test_a_hold_past_its_time_reads_expired_though_nobody_touched_it(client):
    held = hold(ProductFactory())
    end_time(held.id)
    body = client.get(f"/api/v1/reservations/{held.id}/").json()
    assert (body["status"], body["can_extend"]) == ("expired", False)
    assert Reservation.objects.get(pk=held.id).status == "ACTIVE"


@pytest.mark.row("H4", "HC-A10")
def test_availability_counts_a_hold_past_its_time_as_free(client):
    """H4: nobody is told "sold out" while a seat is free."""
    product = ProductFactory(quotas__capacity=2)
    held = hold(product, 2)
    address = f"/api/v1/events/{product.event.slug}/availability/"
    assert client.get(address).json()["products"][0]["state"] == "sold_out"
    end_time(held.id)
    entry = client.get(address).json()["products"][0]
    assert (entry["available"], entry["state"]) == (2, "available")


@pytest.mark.row("H4")
def test_a_refusal_counts_holds_past_their_time_as_available(client):
    """H4: asked for more than even those free up: told what is really left."""
    product = ProductFactory(quotas__capacity=3)
    end_time(hold(product, 2).id)
    answer = ask(client, product.event.slug, [line(product, 4)])
    assert answer.json()["lines"][0]["available"] == 3


@pytest.mark.row("H2", "H4")
def test_taking_back_gives_back_on_every_quota_of_the_ended_hold():
    """H2, H4: the buyer wants one quota; the hold that ended there had claims on others too."""
    event = EventFactory()
    wanted, elsewhere = QuotaFactory(event=event, capacity=1), QuotaFactory(event=event, capacity=5)
    both = ProductFactory(event=event, quotas=[wanted, elsewhere])
    end_time(hold(both).id)
    hold(ProductFactory(event=event, quotas=[wanted]))
    assert counters(wanted) == recount(wanted) == (1, 0)
    assert counters(elsewhere) == recount(elsewhere) == (0, 0)


@pytest.mark.row("H4")
def test_other_events_ended_holds_are_left_to_the_sweeper():
    mine, other = ProductFactory(quotas__capacity=1), ProductFactory(quotas__capacity=1)
    left = hold(other)
    for held in (left, hold(mine)):
        end_time(held.id)
    hold(mine)
    assert Reservation.objects.get(pk=left.id).status == "ACTIVE"


@pytest.mark.row("H4", "H9")
def test_an_ordered_reservation_past_its_time_is_nobodys_seat():
    """H4: it may be being paid; neither a buyer nor the sweep takes it back."""
    product = ProductFactory(quotas__capacity=1)
    held = hold(product)
    Reservation.objects.filter(pk=held.id).update(status="ORDERED")
    end_time(held.id, seconds=3600)
    with pytest.raises(holds.SoldOut):
        hold(product)
    assert holds.release_expired() == 0
    assert stock_of(product) == (1, 0)


@pytest.mark.row("H5")
def test_a_hold_is_extended_once(client):
    """H5: by the event's minutes; the second time is 409 and adds nothing."""
    held = hold(ProductFactory(event__extension_minutes=7))
    answer = client.post(f"/api/v1/reservations/{held.id}/extend/")
    assert (answer.status_code, answer.json()["can_extend"]) == (200, False)
    stored = Reservation.objects.get(pk=held.id)
    assert stored.expires_at - held.expires_at == timedelta(minutes=7)
    again = client.post(f"/api/v1/reservations/{held.id}/extend/")
    assert (again.status_code, again.json()["code"]) == (409, "already_extended")
    assert Reservation.objects.get(pk=held.id).expires_at == stored.expires_at


@pytest.mark.row("H5")
def test_what_cannot_be_extended_says_why(client):
    """H5: ended, released, and an event that does not extend."""
    ended, released = hold(ProductFactory()), hold(ProductFactory())
    fixed = hold(ProductFactory(event__extension_minutes=0))
    end_time(ended.id)
    holds.release(released.id)
    answers = [client.post(f"/api/v1/reservations/{held.id}/extend/") for held in (ended, released, fixed)]
    assert [answer.status_code for answer in answers] == [409, 409, 409]
    assert [answer.json()["code"] for answer in answers] == ["ended", "ended", "not_extendable"]


@pytest.mark.row("H5")
def test_an_extended_hold_past_its_new_time_is_over_for_good(client):
    """H5: an extension does not revive, and an ended hold that was extended says "ended"."""
    held = hold(ProductFactory())
    client.post(f"/api/v1/reservations/{held.id}/extend/")
    end_time(held.id)
    assert client.post(f"/api/v1/reservations/{held.id}/extend/").json()["code"] == "ended"


@pytest.mark.row("H5")
def test_an_order_being_paid_may_be_extended(client):
    held = hold(ProductFactory())
    Reservation.objects.filter(pk=held.id).update(status="ORDERED")
    assert client.post(f"/api/v1/reservations/{held.id}/extend/").status_code == 200


@pytest.mark.row("H6")
def test_releasing_twice_gives_back_once(client):
    """H6: two DELETEs, both 204; somebody else's hold on the same quota is not given back by the second."""
    product = ProductFactory()
    held = hold(product, 2)
    hold(product, 3)
    for _ in range(2):
        assert client.delete(f"/api/v1/reservations/{held.id}/").status_code == 204
        assert stock_of(product) == (3, 0)
    assert StatusChange.objects.filter(object_id=str(held.id)).count() == 1


@pytest.mark.row("H6")
def test_releasing_what_expired_is_no_mistake(client):
    product = ProductFactory()
    held = hold(product)
    end_time(held.id)
    holds.release_expired()
    assert client.delete(f"/api/v1/reservations/{held.id}/").status_code == 204
    assert Reservation.objects.get(pk=held.id).status == "EXPIRED"
    assert stock_of(product) == (0, 0)


@pytest.mark.row("H4", "H6")
def test_the_sweep_works_in_batches_and_leaves_the_living_alone():
    """H4: seven past their time in batches of three; at most so many as it was told."""
    product = ProductFactory(quotas__capacity=20)
    living = hold(product, 2)
    for _ in range(7):
        end_time(hold(product).id)
    assert holds.release_expired(batch=3, at_most=4) == 4
    assert stock_of(product) == (5, 0)
    assert holds.release_expired(batch=3) == 3
    assert holds.release_expired() == 0
    assert stock_of(product) == recount(product.quotas.get()) == (2, 0)
    assert Reservation.objects.get(pk=living.id).status == "ACTIVE"


@pytest.mark.row("H4")
def test_the_sweep_is_also_a_command(capsys):
    product = ProductFactory()
    end_time(hold(product).id)
    call_command("release_expired_holds")
    assert capsys.readouterr().out == "1 released\n"
    assert stock_of(product) == (0, 0)
