"""Probes: alive, ready, degraded, down; and what counts as which."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from waffle.testutils import override_flag

from monitoring import health, heartbeats
from monitoring.models import Heartbeat
from payments import breaker
from payments.models import WebhookEvent
from reservations import sweeping
from reservations.models import SweepRun
from tests.brokers import closed_port
from tests.purchases import sql

pytestmark = pytest.mark.django_db


def readiness(client, query: str = "") -> tuple[int, str, set[str]]:
    """Status code, word, and the names of the checks that failed."""
    answer = client.get(f"/readyz/{query}")
    body = answer.json()
    assert "no-store" in answer["Cache-Control"]
    assert all(check["detail"] for check in body["checks"].values())
    return answer.status_code, body["status"], {name for name, check in body["checks"].items() if not check["ok"]}


def all_is_well() -> None:
    """As in an office that runs: beat was heard, and a sweep has finished."""
    heartbeats.beat("beat")
    sweeping.sweep_expired_holds(by="beat")


def sweep_check(client) -> tuple[bool, str]:
    check = client.get("/readyz/").json()["checks"]["sweep"]
    return check["ok"], check["detail"]


@pytest.mark.row("M10")
def test_livez_touches_nothing(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.get("/livez/")
    assert (answer.status_code, answer.content) == (200, b"ok")


@pytest.mark.row("M10")
def test_ready_when_everything_answers(client):
    all_is_well()
    assert readiness(client) == (200, "ok", set())
    assert readiness(client, "?strict=1") == (200, "ok", set())


@pytest.mark.row("M10")
def test_a_silent_beat_degrades_and_is_strict_only_when_asked(client):
    """M10: never seen, and seen more than a minute ago."""
    sweeping.sweep_expired_holds(by="worker")
    for _ in range(2):
        assert readiness(client) == (200, "degraded", {"beat"})
        assert readiness(client, "?strict=1") == (503, "degraded", {"beat"})
        heartbeats.beat("beat")
        Heartbeat.objects.update(at=Now() - heartbeats.SILENT_AFTER)


@pytest.mark.row("M10")
def test_a_dead_broker_degrades(client, dead_broker):
    all_is_well()
    assert readiness(client) == (200, "degraded", {"broker"})
    assert readiness(client, "?strict=1")[0] == 503


@pytest.mark.row("M10")
def test_a_backlog_degrades(client):
    """M10: more than a thousand events due; a thousand are no backlog, nor are those that wait for their time."""
    all_is_well()
    sql(
        "INSERT INTO payments_webhookevent (stripe_id, type, object_id, api_version, is_livemode, payload, status,"
        " attempts, last_error, source, duplicates)"
        " SELECT 'evt_' || n, 'x', '', '', false, '{}', 'RECEIVED', 0, '', 'WEBHOOK', 0"
        " FROM generate_series(1, 1001) AS n"
    )
    assert readiness(client) == (200, "degraded", {"backlog"})
    WebhookEvent.objects.filter(stripe_id="evt_1").update(status="PROCESSED")
    assert readiness(client) == (200, "ok", set())


@pytest.mark.row("M10", "HC-G1", "HC-G6")
@pytest.mark.parametrize(
    ("outcome", "words"), [("UNAVAILABLE", "Stripe does not answer"), ("MISCONFIGURED", "Stripe refuses our key")]
)
def test_payments_that_pause_by_themselves_degrade(client, outcome, words):
    """M10: the shop goes on selling what it can."""
    all_is_well()
    for _ in range(breaker.TRIES_AT_LEAST):
        breaker.report("retrieve", outcome, 1, passed=breaker.Pass())
    assert readiness(client) == (200, "degraded", {"stripe"})
    assert readiness(client, "?strict=1")[0] == 503
    assert client.get("/readyz/").json()["checks"]["stripe"]["detail"].endswith(words)
    with override_flag(breaker.FLAG, active=False):
        assert readiness(client) == (200, "ok", set())
    breaker.close(by="staff:1")
    assert readiness(client) == (200, "ok", set())


@pytest.mark.row("M10")
def test_payments_that_staff_paused_degrade_without_their_reason(client):
    all_is_well()
    breaker.open(by="staff:1", why="a secret reason")
    assert readiness(client) == (200, "degraded", {"stripe"})
    assert client.get("/readyz/").json()["checks"]["stripe"]["detail"] == "staff have paused payments"


@pytest.mark.row("M10")
def test_a_missing_migration_is_not_ready(client):
    all_is_well()
    health._applied.clear()  # as in a process that has just started
    sql("DELETE FROM django_migrations WHERE app = 'monitoring'")
    assert readiness(client) == (503, "degraded", {"migrations"})


@pytest.mark.row("M10")
@pytest.mark.django_db(transaction=True)
def test_without_the_database_the_office_is_not_ready_and_yet_alive(client):
    """M10: a closed port in the place of the database."""
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = closed_port()
    try:
        code, word, failed = readiness(client)
        alive = client.get("/livez/").status_code
    finally:
        connection.close()
        connection.settings_dict["PORT"] = port
    assert (code, word) == (503, "degraded")
    assert failed == {"database", "migrations", "beat", "sweep", "backlog", "stripe", "webhooks"}
    assert alive == 200
    assert readiness(client)[0] == 200


@pytest.mark.row("H8", "M10")
def test_an_office_that_never_swept_is_degraded_and_says_so(client):
    heartbeats.beat("beat")
    assert readiness(client) == (200, "degraded", {"sweep"})
    assert sweep_check(client) == (False, "no sweep of expired holds yet: schedule or workers are down")
    sweeping.sweep_expired_holds(by="worker")
    assert readiness(client) == (200, "ok", set())
    assert sweep_check(client) == (True, "0 expired holds released by the last")


@pytest.mark.row("H8", "HC-A10")
def test_sweeps_that_stopped_and_sweeps_that_die_are_told_apart(client):
    """H8: the last one finished four minutes ago; then one begins each minute and is killed each time."""
    all_is_well()
    earlier = Now() - timedelta(minutes=4)
    SweepRun.objects.update(started_at=earlier, finished_at=earlier)
    is_ok, detail = sweep_check(client)
    assert (is_ok, detail.partition(" since ")[0]) == (False, "no sweep of expired holds")
    assert readiness(client) == (200, "degraded", {"sweep"})
    for minutes in (2, 1, 0):
        SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", started_at=Now() - timedelta(minutes=minutes))
    is_ok, detail = sweep_check(client)
    assert not is_ok
    assert detail.endswith("began and did not end")


@pytest.mark.row("H8")
def test_a_long_sweep_and_a_purge_change_nothing_about_a_healthy_office(client):
    all_is_well()
    SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat")
    SweepRun.objects.create(name="PURGE", by="beat", started_at=Now(), finished_at=Now(), error="Broken: ")
    assert readiness(client) == (200, "ok", set())


@pytest.mark.row("H8")
def test_a_sweep_that_failed_degrades_until_one_succeeds(client):
    all_is_well()
    SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", finished_at=Now(), error="OperationalError: no space")
    is_ok, detail = sweep_check(client)
    assert (is_ok, "did not do all of its work" in detail) == (False, True)
    assert "no space" not in detail, "the page is public"
    sweeping.sweep_expired_holds(by="command")
    assert sweep_check(client)[0]


@pytest.mark.row("M10")
@pytest.mark.parametrize("path", ["/livez/", "/readyz/"])
def test_probes_answer_plain_http_and_are_never_kept(client, settings, path):
    """M10: no redirect to https, whatever the shop does."""
    settings.SECURE_SSL_REDIRECT = True
    answer = client.get(path)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert client.get("/").status_code == 301
