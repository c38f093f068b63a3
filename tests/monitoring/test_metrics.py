"""What Prometheus reads."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from prometheus_client.parser import text_string_to_metric_families

from monitoring import heartbeats
from payments import breaker
from payments.models import Breaker, StripeCalls
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


@pytest.mark.row("P6")
def test_metrics_tell_how_calls_to_stripe_went_in_the_last_hour(client, settings):
    for outcome, milliseconds in (("OK", 40), ("OK", 60), ("LIMITED", 5)):
        breaker.report("create", outcome, milliseconds, passed=breaker.Pass())
    earlier = {"at": Now() - timedelta(minutes=61), "operation": "create", "outcome": "OK"}
    StripeCalls.objects.create(**earlier, calls=100, milliseconds=100)
    found = read(client, settings)
    assert found["counterfoil_stripe_calls", "create", "ok"] == 2
    assert found["counterfoil_stripe_calls_milliseconds", "create", "ok"] == 100
    assert found["counterfoil_stripe_calls", "create", "limited"] == 1


@pytest.mark.row("P6", "HC-G1", "HC-G2")
def test_metrics_tell_the_state_of_the_breaker(client, settings):
    def states() -> dict[str, float]:
        found = read(client, settings)
        return {key[1]: value for key, value in found.items() if key[0] == "counterfoil_stripe_breaker_state"}

    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    breaker.report("create", "MISCONFIGURED", 5, passed=breaker.Pass())
    assert states() == {"closed": 0, "open": 1, "half_open": 0}
    Breaker.objects.update(changed_at=Now() - 2 * breaker.REST)
    breaker.enter()
    assert states() == {"closed": 0, "open": 0, "half_open": 1}
