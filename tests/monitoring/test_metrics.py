"""What Prometheus reads."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from prometheus_client.parser import text_string_to_metric_families

from monitoring import heartbeats
from reservations import holds, sweeping
from reservations.models import Conflict, LimitHit, SweepRun
from tests.factories import EventFactory, ProductFactory
from tests.purchases import end_time, hold

pytestmark = [pytest.mark.django_db, pytest.mark.row("M8")]


def read(client, settings) -> dict[tuple[str, ...], float]:
    """Every number by its name and the values of its labels."""
    settings.METRICS_TOKEN = "right"
    answer = client.get("/metrics/", headers={"Authorization": "Bearer right"})
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_metrics_are_closed_without_a_token_and_with_a_wrong_one(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics/").status_code == 404
    settings.METRICS_TOKEN = "right"
    assert client.get("/metrics/").status_code == 401
    assert client.get("/metrics/", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_metrics_tell_the_state_of_the_office(client, settings):
    product = ProductFactory()
    holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 2)])
    heartbeats.beat("beat")
    found = read(client, settings)
    assert found["counterfoil_holds_live",] == 1
    assert found["counterfoil_quota_units", "held"] == 2
    assert ("counterfoil_heartbeat_timestamp_seconds", "beat") in found


@pytest.mark.row("H8", "H10")
def test_metrics_tell_of_sweeps_and_of_holds_that_nobody_swept(client, settings):
    """H10: over, and over for more than five minutes; a run that failed is no success."""
    ended = [hold(ProductFactory()) for _ in range(3)]
    for held, seconds in zip(ended, (1, 290, 310), strict=True):
        end_time(held.id, seconds=seconds)
    SweepRun.objects.create(name="PURGE", by="beat", finished_at=Now(), error="Broken: ")
    before = read(client, settings)
    assert before["counterfoil_holds_over", "0"] == 3
    assert before["counterfoil_holds_over", "5"] == 1
    assert ("counterfoil_sweep_last_success_timestamp_seconds", "expired_holds") not in before
    sweeping.sweep_expired_holds(by="beat")
    after = read(client, settings)
    assert (after["counterfoil_holds_over", "0"], after["counterfoil_holds_over", "5"]) == (0, 0)
    assert after["counterfoil_sweep_dealt_with", "expired_holds"] == 3
    finished = SweepRun.objects.get(name="EXPIRED_HOLDS").finished_at
    told = after["counterfoil_sweep_last_success_timestamp_seconds", "expired_holds"]
    assert told == pytest.approx(finished.timestamp(), abs=0.01)
    assert ("counterfoil_sweep_last_success_timestamp_seconds", "purge") not in after


@pytest.mark.row("H13", "H14")
def test_metrics_tell_of_unmet_demand_with_few_labels(client, settings):
    """H14: twenty products by name, the rest together; only the last day counts."""
    event = EventFactory()
    products = [ProductFactory(event=event) for _ in range(23)]
    for n, product in enumerate(products, start=1):
        Conflict.objects.create(product=product, minute=Now(), requests=n, units=n)
        Conflict.objects.create(product=product, minute=Now() - timedelta(hours=25), requests=100, units=100)
    for who in ("10.0.0.1", "10.0.0.2"):
        LimitHit.objects.create(limit="holds", who=who, minute=Now(), hits=3)
    found = read(client, settings)
    of_products = {key[1]: value for key, value in found.items() if key[0] == "counterfoil_conflicts"}
    assert of_products[str(products[-1].pk)] == 23
    assert (len(of_products), of_products["other"]) == (21, 1 + 2 + 3)
    assert found["counterfoil_limit_hits", "holds"] == 6
