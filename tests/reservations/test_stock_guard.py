"""The database is the last guard of the stock, whoever writes."""

import pytest
from django.db import IntegrityError, connection, transaction

from reservations.models import Reservation, ReservationLine
from tests.factories import ProductFactory, QuotaFactory
from tests.purchases import counters, hold, sql, stock_of
from ticketing import quotas

pytestmark = pytest.mark.django_db


@pytest.mark.row("H3")
@pytest.mark.parametrize(
    "change", ["held = 3", "sold = 3", "held = 2, sold = 1", "held = -1", "sold = -1", "capacity = 0, held = 1"]
)
def test_raw_sql_that_would_oversell_is_refused_by_name(change):
    """H3: from an SQL shell, past all our code."""
    quota = QuotaFactory(capacity=2)
    with pytest.raises(IntegrityError, match="quota_is_never_oversold"), transaction.atomic():
        sql(f"UPDATE ticketing_quota SET {change} WHERE id = %s", [quota.pk])
    assert counters(quota) == (0, 0)


@pytest.mark.row("H3")
def test_without_the_constraint_the_same_sql_would_oversell():
    """H3: the guard off: this is what the constraint is there for. The transaction is rolled back."""
    quota = QuotaFactory(capacity=2)
    with transaction.atomic():
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql("ALTER TABLE ticketing_quota DROP CONSTRAINT quota_is_never_oversold")
        sql("UPDATE ticketing_quota SET sold = 3 WHERE id = %s", [quota.pk])
        assert counters(quota) == (0, 3)
        transaction.set_rollback(True)


@pytest.mark.row("H3", "HC-K1")
def test_capacity_cannot_be_lowered_below_what_is_held_and_sold():
    product = ProductFactory(quotas__capacity=5)
    hold(product, 3)
    quota = product.quotas.get()
    assert quotas.lowest_capacity(quota.pk) == 3
    quota.capacity = 2
    with pytest.raises(IntegrityError, match="quota_is_never_oversold"), transaction.atomic():
        quota.save(update_fields=["capacity"])
    quota.capacity = 3
    quota.save(update_fields=["capacity"])


@pytest.mark.row("H3")
def test_moving_stock_refuses_what_does_not_exist_and_what_does_not_fit():
    """H3: a quota that is not there, and a move past the capacity: nothing of it happens."""
    quota, other = QuotaFactory(capacity=1), QuotaFactory(capacity=1)
    with pytest.raises(IntegrityError, match="quota not found"), transaction.atomic():
        quotas.move_stock({quota.pk: quotas.Move(held=1), 2**40: quotas.Move(held=1)})
    with pytest.raises(IntegrityError, match="quota_is_never_oversold"), transaction.atomic():
        quotas.move_stock({quota.pk: quotas.Move(held=1), other.pk: quotas.Move(held=2)})
    with pytest.raises(IntegrityError, match="named twice"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT ticketing_move_stock(ARRAY[%s, %s]::bigint[], ARRAY[1, 1], ARRAY[0, 0])", [quota.pk] * 2)
    assert (counters(quota), counters(other)) == ((0, 0), (0, 0))


@pytest.mark.row("H1")
def test_a_quantity_of_nothing_is_refused_by_the_database():
    """H1: `quantity > 0` by CHECK."""
    held = hold(ProductFactory())
    with pytest.raises(IntegrityError, match="reservation_line_quantity_is_positive"), transaction.atomic():
        ReservationLine.objects.filter(reservation=held.id).update(quantity=0)


@pytest.mark.row("H3")
def test_a_status_outside_its_enum_is_refused_by_the_database():
    held = hold(ProductFactory())
    with pytest.raises(IntegrityError, match="reservation_status_is_known"), transaction.atomic():
        Reservation.objects.filter(pk=held.id).update(status="LOST")


@pytest.mark.row("H3")
def test_a_reservation_deleted_by_hand_leaves_the_counters_to_the_books():
    """H3: deleting rows never lets the counter go below zero when the next hold ends."""
    product = ProductFactory(quotas__capacity=2)
    gone, kept = hold(product), hold(product)
    ReservationLine.objects.filter(reservation=gone.id).delete()
    sql("SELECT reservations_end(ARRAY[%s, %s]::uuid[], 'ACTIVE', 'RELEASED', 'test', 'test')", [gone.id, kept.id])
    assert stock_of(product) == (1, 0)
