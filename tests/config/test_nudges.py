"""Asking a worker to hurry: after the commit, and without caring whether anyone hears."""

from collections.abc import Iterator

import pytest
from django.db import transaction
from django.db.models.functions import Now

from config.celery import app
from config.nudges import nudge
from payments import inbox, webhooks
from payments.models import WebhookEvent
from tests.factories import ProductFactory
from tests.payments.posting import made_up, stored
from tests.purchases import check_out, hold, order_of
from ticketing import emails

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue(settings) -> Iterator:
    """A queue of our own on the real broker, empty; gives a function that counts what waits in it."""
    name = "nudges-of-the-tests"

    def waiting() -> int:
        with app.connection_for_write() as connection:
            return connection.default_channel.client.llen(name)

    with app.connection_for_write() as connection:
        connection.default_channel.client.delete(name)
    yield waiting
    with app.connection_for_write() as connection:
        connection.default_channel.client.delete(name)


@pytest.mark.row("HC-E11", "HC-E3")
def test_hc_e11_nothing_is_sent_before_the_commit_and_nothing_after_a_rollback(queue):
    """HC-E11, HC-E3."""
    with transaction.atomic():
        nudge("monitoring.beat", queue="nudges-of-the-tests")
        assert queue() == 0
    assert queue() == 1
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        nudge("monitoring.beat", queue="nudges-of-the-tests")
        raise ZeroDivisionError
    assert queue() == 1


@pytest.mark.row("HC-E1", "HC-E2")
@pytest.mark.timeout(60)
def test_hc_e2_a_dead_broker_loses_nothing(client, dead_broker):
    """HC-E1, HC-E2: twenty events are stored and twenty free orders are paid; the sweeps find every row."""
    for number in range(20):
        assert inbox.store(made_up(id=f"evt_{number}", type="invoice.paid"))
        held = hold(ProductFactory(free=True))
        assert check_out(client, held.id).status_code == 201
        assert order_of(held.id).status == "PAID"
    WebhookEvent.objects.update(next_attempt_at=Now())
    assert webhooks.sweep() == 20
    assert stored(made_up(id="evt_19")).status == "IGNORED"
    assert emails.send_due() == 20
