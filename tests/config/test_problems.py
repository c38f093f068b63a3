"""Refusals of the JSON contract: always JSON, always a code."""

import pytest
from django.test import Client

from tests.factories import ProductFactory
from tests.purchases import hold

pytestmark = pytest.mark.django_db

RESERVATIONS = "/api/v1/reservations/"


def problem(answer) -> tuple[int, str]:
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["message"]
    assert answer["X-Request-ID"]
    return answer.status_code, answer.json()["code"]


def test_unreadable_json_is_400():
    answer = Client().post(RESERVATIONS, b'{"event": ', content_type="application/json")
    assert problem(answer) == (400, "invalid")
    assert answer.json()["fields"] == {}


@pytest.mark.parametrize("body", [b"\xff\xfe", b"NaN", b'{"event": NaN}', b"{" * 50_000, b"[" * 50_000], ids=range(5))
def test_hostile_json_is_400(body):
    assert problem(Client().post(RESERVATIONS, body, content_type="application/json"))[0] == 400


def test_other_content_types_are_415():
    """The contract: `Content-Type: application/json` required."""
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = Client().post(RESERVATIONS, b"event=x", content_type=content_type)
        assert problem(answer) == (415, "unsupported_media_type")


def test_other_methods_are_405():
    held = hold(ProductFactory())
    client = Client()
    for method, path in (
        ("get", RESERVATIONS),
        ("put", f"{RESERVATIONS}{held.id}/"),
        ("get", f"{RESERVATIONS}{held.id}/extend/"),
        ("post", "/api/v1/events/"),
    ):
        assert problem(getattr(client, method)(path)) == (405, "method_not_allowed")


def test_unknown_addresses_are_404():
    client = Client()
    for path in ("/api/v1/events/nothing/", "/api/v1/nothing/", f"{RESERVATIONS}not-an-id/", "/api/", "/webhooks/x/"):
        assert problem(client.get(path)) == (404, "not_found")


def test_other_answers_than_json_are_406():
    answer = Client().get("/api/v1/events/", headers={"Accept": "application/xml"})
    assert problem(answer) == (406, "not_acceptable")


@pytest.mark.parametrize(
    "cursor", ["nonsense", "cD1ub25zZW5zZQ==", "cj0xJnA9bm9uc2Vuc2U=", "bz05OTk5OTk5OTk5OTk5OTk=", "%00"]
)
def test_a_cursor_that_somebody_made_up_is_no_500(cursor):
    assert Client().get(f"/api/v1/events/?cursor={cursor}").status_code in (200, 400, 404)


def test_a_mistake_of_ours_is_json_too(settings):
    """A view that raises: 500 with a reference to name on the telephone."""
    client = Client(raise_request_exception=False)
    held = hold(ProductFactory(free=True))
    settings.FAILPOINTS = {"in_settle_1": "raise"}
    details = {"email": "ada@example.org", "name": "Ada"}
    answer = client.post(f"{RESERVATIONS}{held.id}/checkout/", details, content_type="application/json")
    assert problem(answer) == (500, "internal_error")
    assert answer.json()["reference"] == answer["X-Request-ID"]


def test_an_unknown_host_is_400_without_a_trace():
    answer = Client().get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "Traceback" not in answer.content.decode()
