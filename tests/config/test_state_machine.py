"""Status moves: allowed or refused, one winner, and a line of history for each."""

from functools import partial

import pytest

from config.state_machine import MoveRefused, move
from reservations.models import Reservation, StatusChange
from tests.factories import ProductFactory
from tests.purchases import hold
from tests.races import at_once, of_type

pytestmark = pytest.mark.django_db


def reservation() -> Reservation:
    return Reservation.objects.get(pk=hold(ProductFactory()).id)


def test_a_move_writes_the_status_its_changes_and_the_history():
    row = reservation()
    move(row, "ORDERED", by="buyer", why="x" * 300, buyer_key="known")
    assert (row.status, row.buyer_key) == ("ORDERED", "known")
    stored = Reservation.objects.get(pk=row.pk)
    assert (stored.status, stored.buyer_key) == ("ORDERED", "known")
    line = StatusChange.objects.get()
    assert (line.kind, line.object_id, line.from_status, line.to_status, line.by, line.why) == (
        "reservation",
        str(row.pk),
        "ACTIVE",
        "ORDERED",
        "buyer",
        "x" * 250,
    )


@pytest.mark.parametrize("target", ["CONFIRMED", "ACTIVE", "LOST", ""])
def test_an_illegal_move_is_refused_and_writes_nothing(target):
    """Not in the table, back to the beginning, or no status at all: the same refusal."""
    row = reservation()
    with pytest.raises(MoveRefused):
        move(row, target, by="test", why="test", buyer_key="changed")
    assert Reservation.objects.get(pk=row.pk).status == row.status == "ACTIVE"
    assert Reservation.objects.get(pk=row.pk).buyer_key == ""
    assert not StatusChange.objects.exists()


def test_a_row_that_somebody_moved_meanwhile_is_not_moved_again():
    ours, theirs = (row := reservation()), Reservation.objects.get(pk=row.pk)
    move(theirs, "RELEASED", by="them", why="first")
    with pytest.raises(MoveRefused, match="no longer ACTIVE"):
        move(ours, "ORDERED", by="us", why="late")
    assert Reservation.objects.get(pk=ours.pk).status == "RELEASED"
    assert ours.status == "ACTIVE", "the instance does not pretend"
    assert list(StatusChange.objects.values_list("by", flat=True)) == ["them"]


@pytest.mark.django_db(transaction=True)
def test_ten_movers_at_once_have_one_winner():
    row = reservation()
    rows = [Reservation.objects.get(pk=row.pk) for _ in range(10)]
    results = at_once([partial(move, copy, "RELEASED", by="race", why="race") for copy in rows])
    assert len(of_type(results, MoveRefused)) == 9
    assert StatusChange.objects.count() == 1
