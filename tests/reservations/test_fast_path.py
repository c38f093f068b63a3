"""The fast path answers what Django would answer, to the letter, and leaves to Django whatever is not ordinary."""

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.fast_path import FastPath
from reservations import fast_path
from reservations.models import Reservation
from reservations.serializers import ReservationRequestSerializer
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import end_time, stock_of

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "/api/v1/reservations/"
VOLATILE = {"x-request-id", "expires", "content-length", "etag"}


class Front:
    """The office's WSGI application, with and without its fast path; `was_fast` tells which way the last call went."""

    def __init__(self, settings) -> None:
        from django.core.wsgi import get_wsgi_application

        self._django = get_wsgi_application()
        self.was_fast = True
        self._fast = FastPath(self._slow, settings.FAST_PATHS)

    def _slow(self, environ: Any, start_response: Any) -> Any:
        self.was_fast = False
        return self._django(environ, start_response)

    def call(
        self, path: str, body: Any = None, *, slowly: bool = False, **more: str
    ) -> tuple[int, dict[str, str], Any]:
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": "POST" if body is not None else "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(sent)),
            "wsgi.input": BytesIO(sent),
            "wsgi.url_scheme": "http",
            "wsgi.errors": BytesIO(),
            **more,
        }
        said: list[Any] = []
        self.was_fast = True
        parts = (self._slow if slowly else self._fast)(environ, lambda *answer: said.append(answer))
        content = b"".join(parts)
        headers = {name.lower(): value for name, value in said[0][1]}
        return int(said[0][0][:3]), headers, json.loads(content) if content else None


@pytest.fixture
def front(settings) -> Front:
    return Front(settings)


def wish(product, quantity: int = 1, **more: Any) -> dict[str, Any]:
    lines = [{"product": product.pk, "slot": None, "quantity": quantity}]
    return {"event": product.event.slug, "lines": lines, **more}


def plain(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in VOLATILE}


def without_chance(content: Any) -> Any:
    """A reservation without what differs from one to the next."""
    return {
        name: value
        for name, value in content.items()
        if name not in {"id", "expires_at", "server_time", "checkout_url"}
    }


@pytest.mark.row("H1", "P3")
def test_the_second_call_is_fast_and_says_the_same_as_django(front):
    product = ProductFactory(quotas__capacity=100)
    first = front.call(ADDRESS, wish(product, 2))
    assert not front.was_fast  # it learns what the middlewares say
    fast = front.call(ADDRESS, wish(product, 2))
    assert front.was_fast
    slow = front.call(ADDRESS, wish(product, 2), slowly=True)
    assert first[0] == fast[0] == slow[0] == 201
    assert plain(fast[1]) == plain(slow[1])
    assert fast[1].keys() - VOLATILE == slow[1].keys() - VOLATILE
    assert without_chance(fast[2]) == without_chance(slow[2])
    assert fast[2].keys() == slow[2].keys()
    for content in (fast[2], slow[2]):
        assert content["checkout_url"] == f"http://localhost/reservations/{content['id']}/checkout/"
    assert stock_of(product) == (6, 0)


@pytest.mark.row("H1", "H7", "HC-A3", "H14")
def test_refusals_are_djangos_too(front):
    """Sold out, not on sale, too many, key reused, unknown event, product, slot and promo code."""
    product = ProductFactory(quotas__capacity=3)
    stopped = ProductFactory(event=product.event, is_stopped=True)
    front.call(ADDRESS, wish(product))
    key = {"HTTP_IDEMPOTENCY_KEY": "a-key-of-20-letters!"}
    assert front.call(ADDRESS, wish(product), **key)[0] == 201
    cases: list[tuple[dict[str, Any], dict[str, str], int]] = [
        (wish(product, 2), {}, 409),
        (wish(stopped), {}, 409),
        (wish(product, 11), {}, 409),
        (wish(product, 2), key, 422),
        ({**wish(product), "event": "no-such-event"}, {}, 400),
        ({**wish(product), "lines": [{"product": 999_999_999, "slot": None, "quantity": 1}]}, {}, 400),
        ({**wish(product), "lines": [{"product": product.pk, "slot": 1, "quantity": 1}]}, {}, 400),
        (wish(product, promo_code="NOPE"), {}, 400),
    ]
    for body, headers, status in cases:
        fast = front.call(ADDRESS, body, **headers)
        assert front.was_fast, body
        slow = front.call(ADDRESS, body, slowly=True, **headers)
        assert (fast[0], slow[0]) == (status, status), body
        assert fast[2] == slow[2]
        assert plain(fast[1]) == plain(slow[1])
    replay = front.call(ADDRESS, wish(product), **key)
    assert (replay[0], replay[1]["idempotent-replayed"]) == (200, "true")


@pytest.mark.row("P3")
@pytest.mark.parametrize(
    "more",
    [
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_TYPE": "application/x-www-form-urlencoded"},
        {"HTTP_ACCEPT": "text/html"},
        {"HTTP_HOST": "evil.example"},
        {"QUERY_STRING": "a=b"},
        {"HTTP_IDEMPOTENCY_KEY": "short"},
        {"CONTENT_LENGTH": ""},
    ],
)
def test_what_is_not_ordinary_goes_on_to_django(front, more):
    product = ProductFactory(quotas__capacity=100)
    front.call(ADDRESS, wish(product))
    before = Reservation.objects.count()
    fast = front.call(ADDRESS, wish(product), **more)
    assert not front.was_fast
    slow = front.call(ADDRESS, wish(product), slowly=True, **more)
    assert fast[0] == slow[0]
    assert Reservation.objects.count() == before + (2 if fast[0] == 201 else 0)


@pytest.mark.row("P3")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"event":"x"}',
        b'{"event":"x","lines":[]}',
        b"\xff\xfe",
        b'{"event":"x","lines":[{"product":"1","quantity":1}]}',
        b'{"event":"x","lines":[{"product":1,"quantity":1.0}]}',
        b'{"event":"x","lines":[{"product":1,"quantity":true}]}',
        b'{"event":"x","lines":[{"product":1,"quantity":0}]}',
        b'{"event":"x","lines":[{"product":-1,"quantity":1}]}',
        b'{"event":" x","lines":[{"product":1,"quantity":1}]}',
        b'{"event":"x\\u0000","lines":[{"product":1,"quantity":1}]}',
        b'{"event":"x","lines":[{"product":1,"quantity":1}],"promo_code":7}',
        b'{"event":"x","lines":[{"product":9223372036854775808,"quantity":1}]}',
        b"[" * 60_000,
    ],
)
def test_a_malformed_body_is_refused_by_django_and_breaks_nothing(front, body):
    product = ProductFactory()
    front.call(ADDRESS, wish(product))
    fast = front.call(ADDRESS, body)
    assert not front.was_fast
    assert fast[0] == 400
    assert fast[2]["code"] == "invalid"


numbers = st.integers(-2, 1_002) | st.sampled_from([2**63 - 1, 2**63, 1.0, "1", True, None])
lines = st.lists(
    st.fixed_dictionaries({"product": numbers, "quantity": numbers}, optional={"slot": numbers}) | st.integers(),
    max_size=3,
)
bodies = st.fixed_dictionaries(
    {"event": st.text(max_size=82) | st.integers(), "lines": lines},
    optional={"promo_code": st.text(max_size=42) | st.none() | st.integers(), "more": st.none()},
)


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bodies)
def test_the_fast_path_takes_nothing_that_the_contract_refuses(body):
    """And what it takes, it reads as the contract does."""
    taken = fast_path._lines(body)
    if taken is None:
        return
    serializer = ReservationRequestSerializer(data=body)
    assert serializer.is_valid(), serializer.errors
    assert serializer.wanted() == taken
    assert serializer.validated_data["event"] == body["event"]
    assert (serializer.validated_data.get("promo_code") or "") == (body.get("promo_code") or "")


@pytest.mark.row("H11")
def test_availability_is_fast_with_its_tag_and_never_from_before_the_question(front):
    product = ProductFactory(quotas__capacity=5)
    address = f"/api/v1/events/{product.event.slug}/availability/"
    front.call(address)
    assert not front.was_fast
    fast, slow = front.call(address), front.call(address, slowly=True)
    assert fast[0] == 200
    for content in (fast[2], slow[2]):
        assert [(line["id"], line["available"]) for line in content["products"]] == [(product.pk, 5)]
    assert fast[2]["products"] == slow[2]["products"]
    assert plain(fast[1]) == plain(slow[1])
    assert fast[1]["etag"] == slow[1]["etag"]
    known = front.call(address, HTTP_IF_NONE_MATCH=fast[1]["etag"])
    assert front.was_fast
    assert (known[0], known[2], known[1]["etag"]) == (304, None, fast[1]["etag"])
    assert known[1]["cache-control"] == "public, max-age=1"
    held = front.call(ADDRESS, wish(product, 2))[2]
    changed = front.call(address, HTTP_IF_NONE_MATCH=fast[1]["etag"])
    assert (changed[0], changed[2]["products"][0]["available"]) == (200, 3)
    end_time(held["id"])
    assert front.call(address)[2]["products"][0]["available"] == 5


@pytest.mark.row("H11")
def test_availability_of_what_is_not_there_is_djangos_404(front):
    front.call(f"/api/v1/events/{ProductFactory().event.slug}/availability/")
    for slug in ("no-such-event", EventFactory(draft=True).slug):
        fast = front.call(f"/api/v1/events/{slug}/availability/")
        assert (fast[0], fast[2]["code"], front.was_fast) == (404, "not_found", False)


@pytest.mark.row("H16")
def test_slots_and_several_lines(front):
    event = EventFactory()
    slot = SlotFactory(event=event)
    tour = ProductFactory(event=event, quotas=[QuotaFactory(event=event, slot=slot), QuotaFactory(event=event)])
    plain_ticket = ProductFactory(event=event)
    body = {
        "event": event.slug,
        "lines": [{"product": tour.pk, "slot": slot.pk, "quantity": 2}, {"product": plain_ticket.pk, "quantity": 1}],
    }
    front.call(ADDRESS, body)
    fast = front.call(ADDRESS, body)
    assert (fast[0], front.was_fast) == (201, True)
    assert [(line["product"], line["slot"], line["quantity"]) for line in fast[2]["lines"]] == [
        (tour.pk, slot.pk, 2),
        (plain_ticket.pk, None, 1),
    ]


def test_it_writes_the_same_log_line(front, log_lines):
    product = ProductFactory()
    for request_id in ("slow-request", "fast-request"):
        front.call(ADDRESS, wish(product), HTTP_X_REQUEST_ID=request_id)
    assert front.was_fast
    slow, fast = [line for line in log_lines() if line["event"] == "request"]
    assert (slow["request_id"], fast["request_id"]) == ("slow-request", "fast-request")
    assert slow.keys() == fast.keys()
    for name in ("event", "logger", "level", "method", "path", "status"):
        assert slow[name] == fast[name]
    assert len(slow["timestamp"]) == len(fast["timestamp"])


def test_a_fault_of_ours_is_a_500_in_the_contracts_shape(front, monkeypatch):
    """The one patch here: nothing else makes the handler fail on purpose."""
    product = ProductFactory()
    front.call(ADDRESS, wish(product))
    monkeypatch.setattr(front._fast, "_routes", [(m, p, lambda call: 1 // 0) for m, p, _h in front._fast._routes])
    status, headers, content = front.call(ADDRESS, wish(product), HTTP_X_REQUEST_ID="broken-request")
    assert (status, content["code"], content["reference"]) == (500, "internal_error", "broken-request")
    assert headers["x-request-id"] == "broken-request"
