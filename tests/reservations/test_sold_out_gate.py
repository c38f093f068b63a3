"""The gate of a rush: it may refuse wrongly for a moment, it never sells, and it never stands in a quiet shop's door."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connection

from reservations import batching, holds, sold_out_gate
from reservations.sold_out_gate import SoldOutGate
from tests.factories import ProductFactory
from tests.purchases import hold, recount, stock_of
from tests.races import at_once
from ticketing.models import Product

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "a-key-of-20-letters!"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Product:
    """Somebody was just told "sold out", and the seat is free again; the gate remembers for a minute, not 100 ms."""
    monkeypatch.setattr(sold_out_gate, "SECONDS", 60.0)
    monkeypatch.setattr(batching, "_gate", SoldOutGate())
    product = ProductFactory(quotas__capacity=1)
    taken = hold(product)
    with pytest.raises(holds.SoldOut):
        hold(product)
    holds.release(taken.id)
    return product


class Asker(threading.Thread):
    """A buyer in a thread; `told` is empty until there is an answer."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.told: list[Any] = []
        self.start()

    def run(self) -> None:
        self.told = at_once([self._call])

    def answer(self) -> Any:
        self.join(30)
        return self.told[0]


@contextmanager
def rush(product: Product) -> Iterator[Asker]:
    """Inside, a call for the event is under way: it waits for the quota's row, which another session has locked."""
    parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**parameters) as other:
        other.execute("SELECT FROM ticketing_quota WHERE id = %s FOR NO KEY UPDATE", [product.quotas.get().pk])
        first = Asker(partial(hold, product))
        _until(lambda: batching._combiner.is_busy(product.event.slug))
        yield first
    first.join(30)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.mark.row("H1", "HC-A10")
def test_in_a_quiet_shop_a_seat_that_came_back_is_sold_at_once(refused):
    assert hold(refused).is_live


@pytest.mark.row("H1")
def test_in_a_rush_the_same_wish_is_refused_from_memory(refused):
    """It is not asked, though it would have to wait; what was left is told as it was told before."""
    with rush(refused) as first:
        with pytest.raises(holds.SoldOut) as refusal:
            hold(refused)
        assert refusal.value.lines == [{"product": refused.pk, "slot": None, "requested": 1, "available": 0}]
        assert first.told == []


@pytest.mark.row("H1", "H7")
@pytest.mark.parametrize(
    ("more", "in_the_end"),
    [
        ({"key": KEY}, holds.SoldOut),
        ({"buyer_key": "b" * 22}, holds.SoldOut),
        ({"promo_code": "NOPE"}, holds.InvalidPromoCode),
    ],
)
def test_in_a_rush_another_wish_still_asks(refused, more, in_the_end):
    """It stands in line behind the first, where the gate would have answered at once, and the database answers it."""
    slug = refused.event.slug
    with rush(refused):
        asker = Asker(partial(holds.reserve, slug, lines=[holds.Wanted(refused.pk, None, 1)], **more))
        _until(lambda: len(batching._combiner._lanes[slug]) == 1 or bool(asker.told))
        assert asker.told == []
    assert isinstance(asker.answer(), in_the_end)


@pytest.mark.row("H1", "H7")
@pytest.mark.parametrize("name", ["key", "buyer_key"])
def test_in_a_rush_who_holds_the_seat_already_is_given_it_again(refused, name):
    """What the gate must not refuse: the same key, the same browser."""
    more = {name: "the-same-one-each-time"}
    lines = [holds.Wanted(refused.pk, None, 1)]
    mine, _ = holds.reserve(refused.event.slug, lines=lines, **more)
    with rush(refused):
        asker = Asker(partial(holds.reserve, refused.event.slug, lines=lines, **more))
        _until(lambda: len(batching._combiner._lanes[refused.event.slug]) == 1 or bool(asker.told))
    again, was_there = asker.answer()
    assert (again.id, was_there) == (mine.id, True)


@pytest.mark.row("H1", "H3", "HC-A10")
def test_after_the_rush_the_seat_that_came_back_is_sold_once_and_the_books_are_right(refused):
    with rush(refused) as first, pytest.raises(holds.SoldOut):
        hold(refused)
    assert first.answer().is_live
    assert stock_of(refused) == recount(refused.quotas.get()) == (1, 0)


def test_it_forgets(monkeypatch):
    monkeypatch.setattr(sold_out_gate, "SECONDS", 0.0)
    gate = SoldOutGate()
    gate.remember("wish", [])
    assert gate.refusal("wish") is None


def test_it_remembers_only_so_much():
    gate = SoldOutGate()
    for wish in range(3 * sold_out_gate.REMEMBERED_AT_MOST):
        gate.remember(wish, [])
    assert len(gate._refused) <= sold_out_gate.REMEMBERED_AT_MOST
