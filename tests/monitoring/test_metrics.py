"""What Prometheus reads."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring import heartbeats
from reservations import holds
from tests.factories import ProductFactory

pytestmark = [pytest.mark.django_db, pytest.mark.row("M8")]


def test_metrics_are_closed_without_a_token_and_with_a_wrong_one(client, settings):
    settings.METRICS_TOKEN = ""
    assert client.get("/metrics/").status_code == 404
    settings.METRICS_TOKEN = "right"
    assert client.get("/metrics/").status_code == 401
    assert client.get("/metrics/", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_metrics_tell_the_state_of_the_office(client, settings):
    settings.METRICS_TOKEN = "right"
    product = ProductFactory()
    holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 2)])
    heartbeats.beat("beat")
    answer = client.get("/metrics/", headers={"Authorization": "Bearer right"})
    assert answer.status_code == 200
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }
    assert found["counterfoil_holds_live",] == 1
    assert found["counterfoil_quota_units", "held"] == 2
    assert ("counterfoil_heartbeat_timestamp_seconds", "beat") in found
