"""The circuit breaker: when it opens, who tries whether Stripe is back, and that it never stands in its own way."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from waffle.testutils import override_flag

from payments import breaker
from payments.breaker import BreakerOpen, Pass
from payments.models import Breaker, StatusChange, StripeCalls
from tests.races import at_once, of_type

pytestmark = [pytest.mark.row("P6"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _flags_as_they_are() -> Iterator[None]:
    caches["switches"].clear()
    yield
    caches["switches"].clear()


def tries(*outcomes: str) -> None:
    for outcome in outcomes:
        breaker.report("retrieve", outcome, 12, passed=Pass())


def opened() -> Breaker:
    tries(*["UNAVAILABLE"] * breaker.TRIES_AT_LEAST)
    return Breaker.objects.get(name="stripe", status="OPEN")


def rested(row: Breaker) -> None:
    """Half a minute later."""
    Breaker.objects.filter(pk=row.pk).update(changed_at=Now() - 2 * breaker.REST)


def probing() -> Pass:
    rested(opened())
    probe = breaker.enter()
    assert probe.is_probe
    return probe


def history(name: str = "stripe") -> list[tuple[str, str]]:
    lines = StatusChange.objects.filter(kind="breaker", object_id=name).order_by("id")
    return list(lines.values_list("from_status", "to_status"))


def said(log_lines, level: str) -> list[str]:
    return [line["event"] for line in log_lines() if line["level"] == level and "breaker" in line["event"]]


def test_closed_calls_go_through_for_one_query():
    breaker.enter()  # the flag is remembered from here on
    with CaptureQueriesContext(connection) as queries:
        passed = breaker.enter()
    assert not passed.is_probe
    assert len(queries) == 1
    assert breaker.state().is_closed
    assert not breaker.is_open()


def test_a_try_is_counted_in_its_ten_seconds_by_operation_and_outcome():
    for milliseconds in (10, 20.4):
        breaker.report("create", "OK", milliseconds, passed=Pass())
    breaker.report("create", "REFUSED", 5, passed=Pass())
    counted = StripeCalls.objects.values_list("operation", "outcome").annotate(Sum("calls"), Sum("milliseconds"))
    assert set(counted) == {("create", "OK", 2, 30), ("create", "REFUSED", 1, 5)}
    assert all(row.at.second % 10 == row.at.microsecond == 0 for row in StripeCalls.objects.all())


def test_tries_that_end_together_are_all_counted():
    results = at_once([lambda: tries("OK", "UNAVAILABLE", "OK")] * 12)
    assert results == [None] * 12
    by_outcome = dict(StripeCalls.objects.order_by().values_list("outcome").annotate(Sum("calls")))
    assert by_outcome == {"OK": 24, "UNAVAILABLE": 12}


def test_it_opens_when_half_of_the_tries_fail(log_lines):
    tries("OK", "OK", "OK", "UNAVAILABLE", "UNAVAILABLE")
    assert not breaker.is_open()
    tries("UNAVAILABLE")
    with pytest.raises(BreakerOpen) as refused:
        breaker.enter()
    assert 0 < refused.value.retry_after_seconds <= 30
    assert refused.value.why == "unavailable: 3 of 6 tries failed in 30 seconds"
    assert breaker.is_open()
    assert history() == [("CLOSED", "OPEN")]
    assert said(log_lines, "critical") == ["stripe breaker opened"]


def test_one_failed_call_is_too_little_to_tell():
    tries(*["UNAVAILABLE"] * (breaker.TRIES_AT_LEAST - 1))
    assert not breaker.is_open()
    tries("UNAVAILABLE")
    assert breaker.is_open()


def test_failures_of_more_than_half_a_minute_ago_do_not_count():
    tries(*["UNAVAILABLE"] * (breaker.TRIES_AT_LEAST - 1))
    StripeCalls.objects.update(at=Now() - timedelta(seconds=31))
    tries(*["UNAVAILABLE"] * (breaker.TRIES_AT_LEAST - 1))
    assert not breaker.is_open()


@pytest.mark.row("HC-G4")
@pytest.mark.parametrize("outcome", ["LIMITED", "REFUSED"])
def test_hc_g4_it_does_not_open_when_stripe_is_well_and_says_no(outcome):
    tries(*[outcome] * 30)
    tries(*["UNAVAILABLE"] * 20)
    assert not breaker.is_open(), "answers of any kind count as Stripe being there"


@pytest.mark.row("HC-G6")
def test_hc_g6_a_refused_key_opens_it_at_once(log_lines):
    tries("OK", "OK", "MISCONFIGURED")
    with pytest.raises(BreakerOpen, match=r"^config$"):
        breaker.enter()
    assert said(log_lines, "critical") == ["stripe breaker opened"]
    rested(Breaker.objects.get(name="stripe"))
    breaker.report("retrieve", "MISCONFIGURED", 3, passed=breaker.enter())
    assert breaker.state().why == "config"
    assert len(said(log_lines, "critical")) == 1, "a page for the outage, none for each call that tries"


def test_of_many_who_open_it_one_does():
    tries(*["UNAVAILABLE"] * (breaker.TRIES_AT_LEAST - 1))
    at_once([lambda: tries("UNAVAILABLE")] * 10)
    assert history() == [("CLOSED", "OPEN")]


@pytest.mark.row("HC-G2")
def test_hc_g2_after_half_a_minute_one_of_twenty_tries():
    rested(opened())
    assert not breaker.is_open(), "whoever asks first must not be told to stay away"
    results = at_once([breaker.enter] * 20)
    assert [passed.is_probe for passed in of_type(results, Pass)] == [True]
    assert len(of_type(results, BreakerOpen)) == 19
    assert breaker.state().status == "HALF_OPEN"
    assert breaker.is_open()
    assert history() == [("CLOSED", "OPEN"), ("OPEN", "HALF_OPEN")]


@pytest.mark.row("HC-G2")
@pytest.mark.parametrize("outcome", ["OK", "REFUSED", "LIMITED"])
def test_hc_g2_an_answer_to_the_one_that_tries_closes_it(outcome, log_lines):
    breaker.report("retrieve", outcome, 80, passed=probing())
    assert breaker.state().is_closed
    assert not breaker.enter().is_probe
    assert history()[-1] == ("HALF_OPEN", "CLOSED")
    assert said(log_lines, "info") == ["stripe breaker closed"]


@pytest.mark.row("HC-G2")
def test_hc_g2_no_answer_to_the_one_that_tries_means_another_half_a_minute(log_lines):
    probe = probing()
    began = breaker.state().since
    breaker.report("retrieve", "UNAVAILABLE", 10_000, passed=probe)
    with pytest.raises(BreakerOpen) as refused:
        breaker.enter()
    assert 25 < refused.value.retry_after_seconds <= 30
    assert breaker.state().since == began, "the outage is as old as it was"
    assert said(log_lines, "critical") == ["stripe breaker opened"]
    breaker.report("retrieve", "OK", 90, passed=probe)
    assert breaker.state().status == "OPEN", "its first try has decided"


def test_a_closed_breaker_has_forgotten_what_opened_it():
    breaker.report("retrieve", "OK", 80, passed=probing())
    tries("UNAVAILABLE")
    assert not breaker.is_open()


@pytest.mark.row("HC-G2")
def test_hc_g2_one_that_tries_and_dies_is_replaced():
    dead = probing()
    with pytest.raises(BreakerOpen):
        breaker.enter()
    Breaker.objects.update(probe_until=Now() - breaker.REST)
    results = at_once([breaker.enter] * 10)
    (successor,) = of_type(results, Pass)
    breaker.report("retrieve", "UNAVAILABLE", 30_000, passed=dead)
    assert breaker.state().status == "HALF_OPEN", "who was taken for dead has no say"
    breaker.report("retrieve", "OK", 80, passed=successor)
    assert breaker.state().is_closed


def test_what_was_under_way_when_it_opened_does_not_end_the_probe():
    probe = probing()
    tries("MISCONFIGURED", "OK")
    assert breaker.state().status == "HALF_OPEN"
    breaker.report("retrieve", "OK", 80, passed=probe)
    assert breaker.state().is_closed


def test_staff_pause_payments_and_nothing_but_staff_ends_it():
    assert breaker.open(by="staff:1", why="Stripe told us to")
    assert not breaker.open(by="staff:2", why="another reason")
    Breaker.objects.update(changed_at=Now() - timedelta(hours=2))
    tries("OK")
    with pytest.raises(BreakerOpen, match=r"^Stripe told us to$"):
        breaker.enter()
    assert breaker.is_open()
    found = breaker.state()
    assert (found.status, found.is_paused_by_staff, found.seconds_to_probe) == ("OPEN", True, None)
    assert breaker.close(by="staff:2")
    assert breaker.enter() == Pass()
    assert not breaker.close(by="staff:2")
    lines = StatusChange.objects.filter(object_id="staff").order_by("id").values_list("to_status", "by", "why")
    assert list(lines) == [("OPEN", "staff:1", "Stripe told us to"), ("CLOSED", "staff:2", "closed by hand")]


@pytest.mark.parametrize("is_probing", [False, True], ids=["open", "half open"])
def test_staff_close_what_opened_by_itself(is_probing):
    probing() if is_probing else opened()
    assert breaker.close(by="staff:1")
    assert breaker.enter() == Pass()
    assert breaker.state().is_closed


@pytest.mark.row("P18")
def test_its_flag_off_every_call_goes_through_and_is_counted():
    opened()
    with override_flag(breaker.FLAG, active=False):
        assert not breaker.enter().is_probe
        assert not breaker.is_open()
        assert not breaker.state().is_in_use
        assert breaker.state().is_closed
        counted = StripeCalls.objects.get().calls
        breaker.report("retrieve", "UNAVAILABLE", 10_000, passed=breaker.enter())
        assert StripeCalls.objects.aggregate(n=Sum("calls"))["n"] == counted + 1
    assert breaker.is_open()


@pytest.mark.row("P18")
def test_its_flag_off_it_does_not_open():
    with override_flag(breaker.FLAG, active=False):
        for _ in range(10):
            breaker.report("retrieve", "UNAVAILABLE", 10_000, passed=breaker.enter())
    assert breaker.state().is_closed


def test_the_database_away_calls_go_through(monkeypatch, log_lines):
    opened()
    breaker.is_open()  # the flag is remembered
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    passed = breaker.enter()
    breaker.report("retrieve", "OK", 80, passed=passed)
    assert not passed.is_probe
    assert not breaker.is_open()
    assert len(said(log_lines, "warning")) == 3
    monkeypatch.undo()
    assert breaker.is_open()


def test_a_connection_that_broke_during_the_call_is_replaced():
    passed = breaker.enter()
    killed = connection.connection.info.backend_pid
    at_once([lambda: connection.cursor().execute("SELECT pg_terminate_backend(%s)", [killed])])
    breaker.report("retrieve", "OK", 80, passed=passed)
    assert breaker.enter() == Pass()
    assert StripeCalls.objects.count() == 0, "only a statistic was lost"


def test_old_statistics_are_deleted():
    for days in (0, 29, 31, 40):
        StripeCalls.objects.create(
            at=Now() - timedelta(days=days), operation="x", outcome="OK", calls=1, milliseconds=1
        )
    assert breaker.forget_old_calls() == 2
    assert StripeCalls.objects.count() == 2
