"""Unmet demand: counted in the process, written together, lost by nobody's fault and blamed on nobody."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings as project
from django.db import OperationalError, connection
from django.db.models.functions import Now

from config.database import database_now
from reservations import demand
from reservations.models import Conflict, LimitHit
from tests.brokers import closed_port
from tests.factories import ProductFactory, SlotFactory
from tests.races import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.row("H14")]


@pytest.fixture(autouse=True)
def nothing_counted_yet() -> Iterator[None]:
    demand._tally.begin()
    yield
    demand._tally.begin()


def conflicts() -> dict[tuple[int, int | None], tuple[int, int]]:
    """(requests, units) by product and slot, over all minutes."""
    found: dict = {}
    for row in Conflict.objects.all():
        requests, units = found.get((row.product_id, row.slot_id), (0, 0))
        found[row.product_id, row.slot_id] = (requests + row.requests, units + row.units)
    return found


def test_counting_asks_the_database_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        demand.conflict(1, None, 2)
        demand.limit_hit("holds", "10.0.0.1")


def test_what_was_counted_is_written_by_product_slot_and_minute():
    product, other = ProductFactory(), ProductFactory()
    slot = SlotFactory(event=other.event)
    for product_id, slot_id, units in [(product.pk, None, 2), (other.pk, slot.pk, 1), (product.pk, None, 3)]:
        demand.conflict(product_id, slot_id, units)
    before = database_now().replace(second=0, microsecond=0)
    assert demand.flush() == 2
    assert conflicts() == {(product.pk, None): (2, 5), (other.pk, slot.pk): (1, 1)}
    minute = Conflict.objects.get(product=product).minute
    assert before <= minute <= database_now()
    assert (minute.second, minute.microsecond) == (0, 0)
    assert demand.flush() == 0


def test_a_second_write_in_the_same_minute_adds_up_and_in_another_is_another_row():
    """The unique constraint counts "no slot" as one place."""
    product = ProductFactory()
    for _ in range(2):
        demand.conflict(product.pk, None, 4)
        demand.limit_hit("holds", "10.0.0.1")
        demand.flush()
    assert conflicts() == {(product.pk, None): (2, 8)}
    assert sum(LimitHit.objects.values_list("hits", flat=True)) == 2
    Conflict.objects.update(minute=Now() - timedelta(hours=1))
    demand.conflict(product.pk, None, 1)
    demand.flush()
    assert Conflict.objects.count() == 2


@pytest.mark.row("H13")
def test_limit_hits_are_counted_by_limit_and_who_and_whatever_the_text_is_it_can_be_stored():
    demand.limit_hit("holds", "10.0.0.1")
    demand.limit_hit("holds", "10.0.0.1")
    demand.limit_hit("checkout", "10.0.0.1")
    demand.limit_hit("x" * 50, "nul\x00" + "y" * 80)
    demand.flush()
    assert sorted(LimitHit.objects.values_list("limit", "who", "hits")) == [
        ("checkout", "10.0.0.1", 1),
        ("holds", "10.0.0.1", 2),
        ("x" * 40, ("nul" + "y" * 80)[:64], 1),
    ]


def test_what_was_deleted_meanwhile_is_left_out_and_the_rest_is_written():
    product, gone = ProductFactory(), ProductFactory()
    slot = SlotFactory(event=product.event)
    for product_id, slot_id in [(gone.pk, None), (product.pk, slot.pk), (product.pk, None), (2**40, None)]:
        demand.conflict(product_id, slot_id, 1)
    slot.delete()
    gone.delete()
    demand.flush()
    assert conflicts() == {(product.pk, None): (1, 1)}
    assert demand.flush() == 0


def test_what_is_kept_between_two_writes_is_bounded(monkeypatch):
    """An attacker with a thousand addresses costs a bounded memory; those already known are counted on."""
    monkeypatch.setattr(demand, "AT_MOST", 3)
    for n in range(10):
        demand.limit_hit("holds", f"10.0.0.{n}")
    demand.limit_hit("holds", "10.0.0.1")
    demand.flush()
    assert dict(LimitHit.objects.values_list("who", "hits")) == {"10.0.0.0": 1, "10.0.0.1": 2, "10.0.0.2": 1}


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_away_it_is_kept_and_then_written_once():
    product = ProductFactory()
    demand.conflict(product.pk, None, 2)
    demand.limit_hit("holds", "10.0.0.1")
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = closed_port()
    try:
        for _ in range(2):
            with pytest.raises(OperationalError):
                demand.flush()
            demand.conflict(product.pk, None, 1)
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port
    assert demand.flush() == 2
    assert conflicts() == {(product.pk, None): (3, 4)}
    assert LimitHit.objects.get().hits == 1


@pytest.mark.django_db(transaction=True)
def test_many_threads_lose_no_count():
    """Eight count while two write: what is written in the end is exactly what was counted."""
    product = ProductFactory()

    def count() -> None:
        for _ in range(500):
            demand.conflict(product.pk, None, 2)

    def write() -> None:
        for _ in range(20):
            demand.flush()

    assert at_once([*[count] * 8, *[write] * 2]) == [None] * 10
    demand.flush()
    assert conflicts() == {(product.pk, None): (4000, 8000)}


@pytest.mark.django_db(transaction=True)
def test_two_processes_with_the_same_products_in_crossed_order_do_not_deadlock():
    places = [(ProductFactory().pk, 0) for _ in range(6)]

    def write(mine: list[tuple[int, int]]) -> None:
        for _ in range(40):
            hits, tallies = Counter(("holds", str(place)) for place in mine), Counter(str(place) for place in mine)
            demand._write(Counter(mine), Counter(mine), hits, tallies)

    results = at_once([partial(write, order) for order in (places, places[::-1], places[3:] + places[:3])])
    assert results == [None] * 3
    assert set(conflicts().values()) == {(120, 120)}


@pytest.mark.django_db(transaction=True)
def test_in_the_web_process_a_timer_writes_and_then_rests(settings):
    """One timer for a burst, none in quiet times; what it could not write it tries again."""
    product = ProductFactory()
    settings.DEMAND_FLUSH_SECONDS = 0.1
    for _ in range(5):
        demand.conflict(product.pk, None, 1)
    timer = demand._tally.timer
    assert timer is not None
    assert threading.active_count() < 50
    timer.join(10)
    assert conflicts() == {(product.pk, None): (5, 5)}
    assert demand._tally.timer is None


@pytest.mark.django_db(transaction=True)
def test_the_timer_tries_again_until_the_database_is_back(settings):
    product = ProductFactory()
    settings.DEMAND_FLUSH_SECONDS = 0.05
    port = connection.settings_dict["PORT"]
    connection.settings_dict["PORT"] = closed_port()  # connections to come, of the timer's threads
    demand.conflict(product.pk, None, 1)
    time.sleep(0.4)
    connection.settings_dict["PORT"] = port
    for _ in range(100):
        if demand._tally.timer is None and conflicts():
            break
        time.sleep(0.05)
    assert conflicts() == {(product.pk, None): (1, 1)}


_COUNTS_AND_ENDS = """
import multiprocessing, os, sys
os.environ["COUNTERFOIL_PROCESS"] = "web"
import django; django.setup()
from reservations import demand
def child():
    for _ in range(2):
        demand.conflict({product}, None, 1)
demand.conflict({product}, None, 1)
worker = multiprocessing.get_context("fork").Process(target=child)
worker.start()
worker.join()
if worker.exitcode:
    sys.exit(worker.exitcode)
demand.conflict({product}, None, 1)
"""


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_writes_what_it_has_and_a_forked_one_only_its_own():
    """As the web server's workers are forked and end; within the second that the timer would have waited."""
    product = ProductFactory()
    server, _slash, _name = os.environ["DATABASE_URL"].rpartition("/")
    environment = os.environ | {"DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}"}
    script = _COUNTS_AND_ENDS.format(product=product.pk)
    subprocess.run([sys.executable, "-c", script], cwd=project.BASE_DIR, env=environment, check=True, timeout=60)
    assert conflicts() == {(product.pk, None): (4, 4)}
