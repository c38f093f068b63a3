"""The signed sweep for schedulers outside."""

import time

import pytest

from config import signed_calls
from reservations import holds
from reservations.models import Reservation
from tests.factories import ProductFactory

ADDRESS = "/maintenance/release-expired-holds/"
SECRET = "a maintenance secret of the tests"

pytestmark = [pytest.mark.django_db, pytest.mark.row("H8")]


def test_a_signed_call_releases_once_and_a_replay_is_refused(client, settings):
    settings.MAINTENANCE_SECRET = SECRET
    product = ProductFactory()
    hold, _is_replayed = holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 2)])
    Reservation.objects.filter(pk=hold.id).update(expires_at="2020-01-01T00:00:00Z")
    header = signed_calls.sign(b"{}", secret=SECRET, at=int(time.time()))
    answers = [
        client.post(ADDRESS, b"{}", content_type="application/json", headers={"X-Signature": header}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 403]
    assert answers[0].json() == {"released": 1, "left": 0}
    assert product.quotas.get().held == 0


@pytest.mark.parametrize("secret", ["", SECRET])
def test_an_unsigned_call_does_nothing(client, settings, secret: str):
    settings.MAINTENANCE_SECRET = secret
    answer = client.post(ADDRESS, b"{}", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
