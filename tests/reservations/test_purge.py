"""What is old goes, what anybody may still need stays, and no buyer waits for it."""

import json
import time
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from reservations import holds, purge, tasks
from reservations.models import (
    Claim,
    Conflict,
    LimitHit,
    Order,
    Reservation,
    ReservationKey,
    ReservationLine,
    StatusChange,
    SweepRun,
    Tally,
    UsedSignature,
)
from tests.factories import ProductFactory
from tests.purchases import check_out, end_time, hold, order_of, recount, stock_of
from tests.races import at_once, of_type
from ticketing.models import Product

pytestmark = pytest.mark.django_db

OLD = timedelta(days=31)


def ended(product: Product, *, ago: timedelta = OLD, key: str | None = None) -> Reservation:
    """A hold that was released so long ago."""
    held = hold(product, key=key)
    holds.release(held.id)
    Reservation.objects.filter(pk=held.id).update(ended_at=Now() - ago)
    return Reservation.objects.get(pk=held.id)


def left() -> set:
    return set(Reservation.objects.values_list("pk", flat=True))


@pytest.mark.row("H8")
def test_ended_holds_without_an_order_go_with_all_that_is_theirs_and_nothing_else_goes(client):
    """H8: living, over, ordered, confirmed, lately ended, and cancelled orders' reservations stay as they are."""
    product = ProductFactory(free=True, quotas__capacity=50)
    released = ended(product, key="k" * 16)
    expired = hold(product)
    end_time(expired.id)
    holds.release_expired()
    Reservation.objects.filter(pk=expired.id).update(ended_at=Now() - OLD)
    lately = ended(product, ago=timedelta(days=29))
    living, over, ordered, paid, cancelled = (hold(product, key=f"{n}" * 16) for n in range(5))
    end_time(over.id, seconds=40 * 24 * 3600)
    Reservation.objects.filter(pk=ordered.id).update(status="ORDERED")
    for held in (paid, cancelled):
        check_out(client, held.id)
    order_of(cancelled.id)
    Reservation.objects.filter(pk=cancelled.id).update(status="EXPIRED", ended_at=Now() - OLD)
    before = stock_of(product)
    purged = purge.purge_old_rows(by="beat")
    assert purged["reservations"] == 2
    kept = {lately.pk, living.id, over.id, ordered.id, paid.id, cancelled.id}
    assert left() == kept
    for model, path in ((ReservationLine, "reservation"), (Claim, "line__reservation")):
        assert set(model.objects.values_list(path, flat=True)) == kept
    assert set(ReservationKey.objects.values_list("reservation", flat=True)) == kept - {lately.pk}
    of_purged = [str(released.pk), str(expired.id)]
    assert not StatusChange.objects.filter(object_id__in=of_purged).exists()
    assert StatusChange.objects.filter(object_id=str(paid.id)).exists()
    assert Order.objects.count() == 2
    assert stock_of(product) == before
    assert purge.purge_old_rows(by="beat")["reservations"] == 0


@pytest.mark.row("H8")
def test_how_long_ended_holds_are_kept_is_a_setting(settings):
    settings.HOLD_KEEP_DAYS = 3
    product = ProductFactory()
    ended(product, ago=timedelta(days=4))
    kept = ended(product, ago=timedelta(days=2))
    assert purge.purge_old_rows(by="beat")["reservations"] == 1
    assert left() == {kept.pk}


@pytest.mark.row("H8")
def test_signatures_statistics_and_runs_go_when_they_are_old_and_the_last_run_of_each_name_stays():
    product = ProductFactory()
    for days in (2, 0):
        UsedSignature.objects.create(signature=f"{days}" * 64, used_at=Now() - timedelta(days=days))
    for days in (91, 89):
        minute = Now() - timedelta(days=days)
        Conflict.objects.create(product=product, minute=minute, requests=1, units=1)
        LimitHit.objects.create(limit="holds", who="10.0.0.1", minute=minute, hits=1)
        Tally.objects.create(name="hold_replayed", minute=minute, count=1)
    for days in (30, 20, 8, 6):
        SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", started_at=Now() - timedelta(days=days))
    for days in (30, 20):
        SweepRun.objects.create(name="PURGE", by="command", started_at=Now() - timedelta(days=days), dealt_with=1)
    expected = {"reservations": 0, "used_signatures": 1, "conflicts": 1, "limit_hits": 1, "tallies": 1}
    assert purge.count_old_rows() == expected | {"sweep_runs": 3 + 1}
    assert purge.purge_old_rows(by="beat") == expected | {"sweep_runs": 3 + 2}  # its own row is the last of its name
    assert (UsedSignature.objects.count(), Conflict.objects.count(), LimitHit.objects.count()) == (1, 1, 1)
    assert list(SweepRun.objects.order_by("pk").values_list("name", "dealt_with")) == [
        ("EXPIRED_HOLDS", 0),
        ("PURGE", 9),
    ]


@pytest.mark.row("H8")
def test_the_last_run_of_a_name_stays_however_old():
    long_ago = timedelta(days=400)
    last = SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", started_at=Now() - long_ago)
    SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", started_at=Now() - 2 * long_ago)
    assert purge.purge_old_rows(by="beat")["sweep_runs"] == 1
    assert SweepRun.objects.get(name="EXPIRED_HOLDS") == last


@pytest.mark.row("H8")
def test_a_purge_works_in_batches_and_leaves_the_rest_to_the_next_when_its_time_is_up(client, monkeypatch):
    """H8: reservations that an order keeps stand first in the line and do not stop it."""
    monkeypatch.setattr(purge, "BATCH", 2)
    free = ProductFactory(free=True)
    for _ in range(3):
        held = hold(free)
        check_out(client, held.id)
        Reservation.objects.filter(pk=held.id).update(status="EXPIRED", ended_at=Now() - 2 * OLD)
    product = ProductFactory()
    for _ in range(5):
        ended(product)
    UsedSignature.objects.create(signature="a" * 64, used_at=Now() - OLD)
    first = purge.purge_old_rows(by="beat", for_seconds=0)
    assert (first["reservations"], first["used_signatures"]) == (2, 0)
    second = purge.purge_old_rows(by="beat")
    assert (second["reservations"], second["used_signatures"]) == (3, 1)
    assert Reservation.objects.count() == 3
    assert list(SweepRun.objects.order_by("pk").values_list("dealt_with", "error")) == [(2, ""), (4, "")]


@pytest.mark.row("H8")
def test_the_purge_is_a_task_of_beats():
    ended(ProductFactory())
    tasks.purge_old_rows()
    run = SweepRun.objects.get()
    assert (run.name, run.by, run.dealt_with, run.error) == ("PURGE", "beat", 1, "")


@pytest.mark.row("H8")
def test_the_purge_is_also_a_command_which_can_only_look(capsys):
    ended(ProductFactory())
    call_command("purge_old_rows", dry_run=True, json=True)
    looked = json.loads(capsys.readouterr().out)
    assert (looked["dry_run"], looked["reservations"]) == (True, 1)
    assert Reservation.objects.count() == 1
    assert not SweepRun.objects.exists()
    call_command("purge_old_rows")
    assert "1 reservations purged" in capsys.readouterr().out
    assert not Reservation.objects.exists()
    call_command("purge_old_rows", json=True)
    assert json.loads(capsys.readouterr().out)["reservations"] == 0


@pytest.mark.row("H8", "H7")
def test_a_key_that_was_used_again_goes_with_its_new_hold_only():
    """H7: the key of a hold that ended long ago was bound to a new one since; the purge of the old one leaves it alone."""
    product = ProductFactory()
    old = ended(product, key="k" * 16)
    new = hold(product, key="k" * 16)
    assert new.id != old.pk
    assert purge.purge_old_rows(by="beat")["reservations"] == 1
    assert ReservationKey.objects.get().reservation_id == new.id
    assert hold(product, key="k" * 16).id == new.id


@pytest.mark.row("H8")
@pytest.mark.django_db(transaction=True)
def test_what_somebody_else_works_on_is_skipped_without_waiting():
    """Staff look at one of them with a lock: the purge takes the others, and that one the next time."""
    product = ProductFactory()
    locked, other = ended(product), ended(product)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as staff:
        staff.execute("SELECT FROM reservations_reservation WHERE id = %s FOR SHARE", [locked.pk])
        began = time.monotonic()
        assert purge.purge_old_rows(by="beat")["reservations"] == 1
        assert time.monotonic() - began < 2
        assert left() == {locked.pk}
    assert other.pk not in left()
    assert purge.purge_old_rows(by="beat")["reservations"] == 1


@pytest.mark.row("H8", "H7")
@pytest.mark.django_db(transaction=True)
def test_buyers_go_on_while_it_purges(client, monkeypatch):
    """H8: new holds, the old keys used again, and free orders, beside two purges: all of them stand, and the stock fits."""
    monkeypatch.setattr(purge, "BATCH", 3)
    product = ProductFactory(free=True, quotas__capacity=200)
    keys = [f"key-of-a-buyer-{n:02}" for n in range(12)]
    old = {ended(product, key=key).pk for key in keys}

    def buy(mine: list[str]) -> list:
        bought = [hold(product, key=key) for key in mine]
        assert check_out(client, bought[0].id).status_code == 201
        return [held.id for held in bought]

    buyers = [partial(buy, keys[start : start + 3]) for start in range(0, 12, 3)]
    results = at_once([*buyers, *[partial(purge.purge_old_rows, by="beat")] * 2])
    assert not of_type(results, Exception)
    assert sum(purged["reservations"] for purged in of_type(results, dict)) == 12
    bought = {held for mine in of_type(results, list) for held in mine}
    assert (left(), left() & old) == (bought, set())
    assert len(bought) == 12
    assert set(ReservationKey.objects.values_list("reservation", flat=True)) == bought
    assert stock_of(product) == recount(product.quotas.get()) == (8, 4)
