"""A unit of work that PostgreSQL chose as a victim is run again, whole."""

import threading
from functools import partial

import pytest
from django.db import OperationalError, transaction

from config.database import retried_on_conflict
from tests.factories import QuotaFactory
from tests.purchases import sql
from tests.races import at_once, of_type
from ticketing.models import Quota

pytestmark = pytest.mark.django_db(transaction=True)


class CrossedUpdates:
    """Two transactions that each lock a row and then want the other's: a deadlock, the first time round."""

    def __init__(self) -> None:
        self.rows = [QuotaFactory(capacity=100).pk for _ in range(2)]
        self.both_have_one = threading.Barrier(2)
        self.began = 0

    def run(self, first: int, second: int) -> str:
        with transaction.atomic():
            sql("UPDATE ticketing_quota SET held = held + 1 WHERE id = %s", [self.rows[first]])
            self.began += 1
            if self.began <= 2:
                self.both_have_one.wait(20)
            sql("UPDATE ticketing_quota SET held = held + 1 WHERE id = %s", [self.rows[second]])
        return "done"

    def held(self) -> list[int]:
        return list(Quota.objects.order_by("pk").values_list("held", flat=True))


@pytest.mark.row("HC-A6", "HC-M4")
def test_hc_a6_a_deadlock_is_run_again_whole():
    """HC-A6: both succeed, and what the victim had begun counts once."""
    crossed = CrossedUpdates()
    unit = retried_on_conflict(crossed.run)
    assert at_once([partial(unit, 0, 1), partial(unit, 1, 0)]) == ["done", "done"]
    assert crossed.held() == [2, 2]
    assert crossed.began >= 3


@pytest.mark.row("HC-A6", "HC-M4")
def test_hc_a6_without_the_retry_one_of_them_fails():
    """HC-A6, the guard off."""
    crossed = CrossedUpdates()
    results = at_once([partial(crossed.run, 0, 1), partial(crossed.run, 1, 0)])
    assert len(of_type(results, OperationalError)) == 1
    assert crossed.held() == [1, 1]


@pytest.mark.row("HC-M4")
def test_hc_m4_other_mistakes_are_not_repeated_and_repeats_are_bounded():
    """HC-M4: a division by zero is raised once; a serialization failure that never ends is raised after three tries."""
    tries = []

    @retried_on_conflict
    def unit(statement: str) -> None:
        tries.append(statement)
        sql(statement)

    for statement, expected in (
        ("SELECT 1 / 0", 1),
        ("DO $$ BEGIN RAISE serialization_failure; END $$", 3),
    ):
        tries.clear()
        with pytest.raises(Exception, match=r"zero|serialization"):
            unit(statement)
        assert len(tries) == expected


@pytest.mark.row("HC-M4")
def test_hc_m4_inside_another_transaction_the_failure_is_its_owners():
    """HC-M4: half a transaction cannot be repeated."""
    tries = []

    @retried_on_conflict
    def unit() -> None:
        tries.append(1)
        sql("DO $$ BEGIN RAISE serialization_failure; END $$")

    with pytest.raises(OperationalError), transaction.atomic():
        unit()
    assert len(tries) == 1
