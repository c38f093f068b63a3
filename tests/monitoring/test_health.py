"""Probes: alive, ready, degraded, down; and what counts as which."""

import pytest
from django.db import connection
from django.db.models.functions import Now

from monitoring import health, heartbeats
from monitoring.models import Heartbeat
from payments.models import WebhookEvent
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


@pytest.mark.row("M10")
def test_livez_touches_nothing(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.get("/livez/")
    assert (answer.status_code, answer.content) == (200, b"ok")


@pytest.mark.row("M10")
def test_ready_when_everything_answers(client):
    heartbeats.beat("beat")
    assert readiness(client) == (200, "ok", set())
    assert readiness(client, "?strict=1") == (200, "ok", set())


@pytest.mark.row("M10")
def test_a_silent_beat_degrades_and_is_strict_only_when_asked(client):
    """M10: never seen, and seen more than a minute ago."""
    for _ in range(2):
        assert readiness(client) == (200, "degraded", {"beat"})
        assert readiness(client, "?strict=1") == (503, "degraded", {"beat"})
        heartbeats.beat("beat")
        Heartbeat.objects.update(at=Now() - heartbeats.SILENT_AFTER)


@pytest.mark.row("M10")
def test_a_dead_broker_degrades(client, dead_broker):
    heartbeats.beat("beat")
    assert readiness(client) == (200, "degraded", {"broker"})
    assert readiness(client, "?strict=1")[0] == 503


@pytest.mark.row("M10")
def test_a_backlog_degrades(client):
    """M10: more than a thousand events due; a thousand are no backlog, nor are those that wait for their time."""
    heartbeats.beat("beat")
    sql(
        "INSERT INTO payments_webhookevent (stripe_id, type, object_id, api_version, is_livemode, payload, status,"
        " attempts, last_error) SELECT 'evt_' || n, 'x', '', '', false, '{}', 'RECEIVED', 0, ''"
        " FROM generate_series(1, 1001) AS n"
    )
    assert readiness(client) == (200, "degraded", {"backlog"})
    WebhookEvent.objects.filter(stripe_id="evt_1").update(status="PROCESSED")
    assert readiness(client) == (200, "ok", set())


@pytest.mark.row("M10")
def test_a_missing_migration_is_not_ready(client):
    heartbeats.beat("beat")
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
    assert failed == {"database", "migrations", "beat", "backlog"}
    assert alive == 200
    assert readiness(client)[0] == 200


@pytest.mark.row("M10")
@pytest.mark.parametrize("path", ["/livez/", "/readyz/"])
def test_probes_answer_plain_http_and_are_never_kept(client, settings, path):
    """M10: no redirect to https, whatever the shop does."""
    settings.SECURE_SSL_REDIRECT = True
    answer = client.get(path)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert client.get("/").status_code == 301
