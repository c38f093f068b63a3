"""Feature flags: who they are on for, and that asking costs nothing and never fails (P18)."""

from collections.abc import Iterator
from importlib import import_module

import pytest
from django.apps import apps
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from waffle.models import Flag, Switch

from config import features

pytestmark = [pytest.mark.row("P18"), pytest.mark.django_db]
MIGRATION = import_module("monitoring.migrations.0003_feature_flags")


@pytest.fixture(autouse=True)
def _as_migrated(db) -> Iterator[None]:
    Flag.objects.all().delete()
    MIGRATION.add(apps, None)
    caches["switches"].clear()
    yield
    caches["switches"].clear()  # what the test rolls back must not be remembered


def put(everyone: bool | None, percent: float | None = None) -> None:
    Flag.objects.filter(name="hosted-checkout").update(everyone=everyone, percent=percent)
    caches["switches"].clear()


def those_with_it() -> set[int]:
    return {subject for subject in range(1000) if features.is_on("hosted-checkout", subject=subject)}


def test_the_migration_makes_exactly_the_flags_that_the_code_knows():
    rows = dict(Flag.objects.values_list("name", "note"))
    assert rows == {feature.name: feature.note for feature in features.REGISTRY.values()}


def test_the_rows_begin_as_the_defaults_say():
    by_row = {flag.name: flag.everyone for flag in Flag.objects.all()}
    assert by_row == {feature.name: feature.is_on_by_default for feature in features.REGISTRY.values()}


def test_nothing_that_guards_the_stock_has_a_flag():
    assert set(features.REGISTRY) == {
        "redis-locks",
        "hold-combining",
        "hosted-checkout",
        "stripe-breaker",
        "auto-refund",
        "self-service-sync",
    }


@pytest.mark.parametrize("was_on", [True, False])
def test_the_switch_of_the_locks_becomes_a_flag_and_an_off_stays_off(was_on):
    Flag.objects.all().delete()
    Switch.objects.create(name="redis-locks", active=was_on)
    MIGRATION.add(apps, None)
    assert Flag.objects.get(name="redis-locks").everyone is was_on
    assert not Switch.objects.exists()
    assert Flag.objects.filter(everyone=True).count() == 5 + was_on
    MIGRATION.remove(apps, None)
    assert Switch.objects.get().active is was_on
    assert not Flag.objects.exists()


def test_on_for_everyone_and_for_nobody():
    put(everyone=True, percent=10)
    assert len(those_with_it()) == 1000
    put(everyone=False, percent=90)
    assert those_with_it() == set()
    put(everyone=None)
    assert those_with_it() == set()


def test_a_share_is_sticky_about_right_and_only_grows():
    before: set[int] = set()
    for percent in (1, 10, 50, 90, 99.9):
        put(None, percent)
        chosen = those_with_it()
        assert before <= chosen, "who had it keeps it"
        assert chosen == those_with_it()
        assert abs(len(chosen) - 10 * percent) < 60
        before = chosen


def test_another_flag_chooses_others():
    put(None, 50)
    Flag.objects.filter(name="auto-refund").update(everyone=None, percent=50)
    others = {subject for subject in range(1000) if features.is_on("auto-refund", subject=subject)}
    assert 150 < len(those_with_it() & others) < 350


def test_without_a_subject_each_call_is_decided_by_chance():
    put(None, 50)
    assert {features.is_on("hosted-checkout") for _ in range(200)} == {True, False}


def test_asking_again_costs_no_query():
    features.is_on("hosted-checkout")
    with CaptureQueriesContext(connection) as queries:
        assert features.is_on("hosted-checkout", subject="a")
    assert len(queries) == 0


def test_without_its_row_the_default_counts(monkeypatch):
    Flag.objects.all().delete()
    caches["switches"].clear()
    assert features.is_on("hosted-checkout", subject="a")
    monkeypatch.setitem(features.REGISTRY, "new", features.Feature("new", "", "", is_on_by_default=False))
    assert not features.is_on("new", subject="a")


@pytest.mark.django_db(transaction=True)
def test_without_the_database_the_default_counts(monkeypatch, caplog):
    put(everyone=False)
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    assert features.is_on("hosted-checkout", subject="a")
    assert "its default counts" in caplog.text
    monkeypatch.undo()
    caches["switches"].clear()  # as after a second
    assert not features.is_on("hosted-checkout", subject="a")


def test_who_turns_it_sees_it_at_once():
    assert features.is_on("hosted-checkout")
    flag = Flag.objects.get(name="hosted-checkout")
    flag.everyone = False
    flag.save()
    flag.flush()  # waffle's own memory, which it empties at commit
    assert not features.is_on("hosted-checkout")


def test_an_unknown_name_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        features.is_on("hosted-chekout")
