"""One hold whose books are wrong, or one stuck transaction, does not stop the others."""

import psycopg
import pytest
from django.db import connection

from reservations import holds
from reservations.models import Reservation
from tests.factories import ProductFactory
from tests.purchases import end_time, hold, stock_of
from ticketing.models import Quota

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.row("H8", "H10")
def test_a_hold_that_cannot_be_released_keeps_nobody_elses_stock():
    """Its quota's counter was altered by hand: the batch is refused, the rest is released one by one."""
    poisoned, healthy = ProductFactory(), ProductFactory()
    bad, good = hold(poisoned), hold(healthy)
    Quota.objects.filter(products=poisoned).update(held=0)
    for held in (bad, good):
        end_time(held.id)
    assert holds.release_expired() == 1
    assert Reservation.objects.get(pk=good.id).status == "EXPIRED"
    assert Reservation.objects.get(pk=bad.id).status == "ACTIVE"
    assert stock_of(healthy) == (0, 0)


@pytest.mark.row("H1")
def test_a_quota_locked_by_a_stuck_session_is_busy_and_not_broken(client):
    """The lock time limit ends the wait: 503 with Retry-After, nothing taken, and the next call succeeds."""
    product = ProductFactory()
    quota = product.quotas.get()
    body = {"event": product.event.slug, "lines": [{"product": product.pk, "quantity": 1}]}
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '200ms'")
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as stuck:
        stuck.execute("SELECT FROM ticketing_quota WHERE id = %s FOR UPDATE", [quota.pk])
        answer = client.post("/api/v1/reservations/", body, content_type="application/json")
        assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "busy", "1")
    assert client.post("/api/v1/reservations/", body, content_type="application/json").status_code == 201
    assert stock_of(product) == (1, 0)
