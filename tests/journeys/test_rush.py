"""A rush over HTTP: a thousand attempts at the same moment on the real web process, its parts dying meanwhile."""

import json
import logging
import selectors
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import requests

from reservations.models import Reservation
from tests.factories import ProductFactory
from tests.office import Office
from tests.purchases import recount
from ticketing.models import Product, Quota

pytestmark = [pytest.mark.office, pytest.mark.alone]

PATIENCE_SECONDS = 60.0


@pytest.fixture
def unlimited(office: Office) -> Iterator[Office]:
    """The office with its rate limits off: all of a rush's buyers come from one address here."""
    office.restart("web", RATE_LIMITS="off")
    office.wait_until_ready()
    yield office
    office.restart("web")
    office.wait_until_ready()


class Caller:
    """One open connection: a request that is ready to go, and what comes back."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.socket = socket.create_connection(("127.0.0.1", office.port), timeout=PATIENCE_SECONDS)
        self.received = b""

    def send(self, product: Product, *, quantity: int = 1, key: str = "") -> None:
        lines = [{"product": product.pk, "slot": None, "quantity": quantity}]
        body = json.dumps({"event": product.event.slug, "lines": lines}).encode()
        head = [
            "POST /api/v1/reservations/ HTTP/1.1",
            f"Host: 127.0.0.1:{self.office.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if key:
            head.append(f"Idempotency-Key: {key}")
        self.received = b""
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def is_answered(self) -> bool:
        """Reads what has come; whether that is the whole answer."""
        part = self.socket.recv(65536)
        assert part, f"hung up after {self.received!r}"
        self.received += part
        head, blank, body = self.received.partition(b"\r\n\r\n")
        return bool(blank) and len(body) >= int(self._headers(head)["content-length"])

    @property
    def answer(self) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body, headers."""
        head, _blank, body = self.received.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body), self._headers(head)

    @staticmethod
    def _headers(head: bytes) -> dict[str, str]:
        pairs = (line.split(":", 1) for line in head.decode().split("\r\n")[1:])
        return {name.lower(): value.strip() for name, value in pairs}


def answers(callers: Sequence[Caller]) -> list[tuple[int, dict[str, Any], dict[str, str]]]:
    """Waits for all of them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller.socket, selectors.EVENT_READ, caller)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} callers have no answer"
            for key, _events in selector.select(1.0):
                if key.data.is_answered():
                    selector.unregister(key.fileobj)
    return [caller.answer for caller in callers]


@pytest.fixture
def open_lines(unlimited: Office) -> Iterator[Any]:
    """Opens so many connections, all before the first word is said."""
    callers: list[Caller] = []

    def open_them(number: int) -> list[Caller]:
        callers.extend(Caller(unlimited) for _ in range(number))
        return callers[-number:]

    yield open_them
    for caller in callers:
        caller.socket.close()


def as_stored(product: Product) -> tuple[int, int]:
    """(held, sold), which is also what the claims add up to."""
    quota = Quota.objects.get(products=product)
    assert (quota.held, quota.sold) == recount(quota)
    return quota.held, quota.sold


def complaints(office: Office, since: int) -> list[str]:
    """What the web process has logged as an error or worse, and tracebacks, since its log was so long."""
    with office.log("web").open("rb") as log:
        log.seek(since)
        lines = log.read().decode().splitlines()
    bad = ("Traceback", *(f'"level": "{name}"' for name in ("error", "critical")), *map(logging.getLevelName, (40, 50)))
    return [line for line in lines if any(word in line for word in bad)]


def length_of_log(office: Office) -> int:
    return office.log("web").stat().st_size


@pytest.mark.row("H1", "H3", "HC-A5", "PF3")
def test_a_thousand_at_once_for_a_hundred_seats(unlimited: Office, open_lines: Any):
    """HC-A5, PF3: exactly a hundred are served, nine hundred are told sold out, nothing else happens."""
    product = ProductFactory(quotas__capacity=100)
    since = length_of_log(unlimited)
    callers = open_lines(1_000)
    for caller in callers:
        caller.send(product)
    told = answers(callers)
    assert Counter((status, body.get("code")) for status, body, _h in told) == {
        (201, None): 100,
        (409, "sold_out"): 900,
    }
    held = {body["id"] for status, body, _h in told if status == 201}
    assert held == set(map(str, Reservation.objects.filter(event=product.event).values_list("pk", flat=True)))
    assert len(held) == 100
    assert as_stored(product) == (100, 0)
    assert complaints(unlimited, since) == []


@pytest.mark.row("H7", "HC-A4", "HC-A5")
def test_a_thousand_impatient_buyers_who_click_twice(unlimited: Office, open_lines: Any):
    """HC-A4: two thousand requests, each key twice: a hundred holds, each told to both clicks, once as new."""
    product = ProductFactory(quotas__capacity=100)
    since = length_of_log(unlimited)
    callers = open_lines(2_000)
    keys = [uuid.uuid4().hex for _ in range(1_000)] * 2
    for caller, key in zip(callers, keys, strict=True):
        caller.send(product, key=key)
    told = answers(callers)
    assert {status for status, _b, _h in told} == {200, 201, 409}
    first_and_second: dict[str, list[Any]] = {}
    for key, (status, body, headers) in zip(keys, told, strict=True):
        assert (headers.get("idempotent-replayed") == "true") is (status == 200)
        first_and_second.setdefault(key, []).append((status, body.get("id"), body.get("code")))
    served = [clicks for clicks in first_and_second.values() if clicks[0][0] != 409 or clicks[1][0] != 409]
    assert len(served) == 100
    for clicks in served:
        assert sorted(status for status, _id, _code in clicks) == [200, 201]
        assert len({each for _status, each, _code in clicks}) == 1
    assert {code for clicks in first_and_second.values() for status, _id, code in clicks if status == 409} == {
        "sold_out"
    }
    assert Reservation.objects.filter(event=product.event).count() == 100
    assert as_stored(product) == (100, 0)
    assert complaints(unlimited, since) == []


@pytest.mark.row("H4", "H10", "HC-A10")
def test_hc_a10_with_every_worker_dead_an_ended_hold_is_anybodys(unlimited: Office):
    """HC-A10: worker and beat are gone: availability shows the seat, and the next buyer gets it."""
    unlimited.kill("worker")
    unlimited.kill("beat")
    product = ProductFactory(quotas__capacity=1)
    (first, status), (_, refused) = _ask(unlimited, product), _ask(unlimited, product)
    assert (status, refused) == (201, 409)
    assert _left(unlimited, product) == (0, "sold_out")
    Reservation.objects.filter(pk=first["id"]).update(expires_at="2020-01-01T00:00:00Z")
    assert _left(unlimited, product) == (1, "available")
    second, status = _ask(unlimited, product)
    assert status == 201
    assert second["id"] != first["id"]
    assert set(Reservation.objects.filter(event=product.event).values_list("status", flat=True)) == {
        "EXPIRED",
        "ACTIVE",
    }
    assert as_stored(product) == (1, 0)


@pytest.mark.row("H4", "HC-A10", "PF3")
def test_hc_a10_a_rush_on_what_ended_holds_keep(unlimited: Office, open_lines: Any):
    """HC-A10: no sweeper, a hundred seats all in holds that ended: three hundred at once get them, a hundred times."""
    unlimited.kill("worker")
    unlimited.kill("beat")
    product = ProductFactory(quotas__capacity=100)
    callers = open_lines(300)
    for caller in callers[:100]:
        caller.send(product)
    assert Counter(status for status, _b, _h in answers(callers[:100])) == {201: 100}
    Reservation.objects.filter(event=product.event).update(expires_at="2020-01-01T00:00:00Z")
    for caller in callers:
        caller.send(product)
    assert Counter(status for status, _b, _h in answers(callers)) == {201: 100, 409: 200}
    assert as_stored(product) == (100, 0)


@pytest.mark.row("H12", "HC-E8")
def test_hc_e8_redis_dies_in_the_middle_of_a_rush(office: Office):
    """HC-E8: with the rate limits on, though high: they count in Redis until it is killed. No oversell, no 5xx."""
    office.restart("web", HOLD_LIMIT_PER_BUYER="100000/m", HOLD_LIMIT_PER_ADDRESS="100000/m")
    office.wait_until_ready()
    product = ProductFactory(quotas__capacity=100)
    callers = [Caller(office) for _ in range(600)]
    try:
        for at, caller in enumerate(callers):
            if at == 300:
                office.redis.kill()
            caller.send(product)
        told = answers(callers)
        assert Counter(status for status, _b, _h in told) == {201: 100, 409: 500}
        assert as_stored(product) == (100, 0)
        assert _ask(office, ProductFactory())[1] == 201
    finally:
        for caller in callers:
            caller.socket.close()
        office.redis.start()
        office.restart("web")
        office.wait_until_ready()


def _ask(office: Office, product: Product) -> tuple[dict[str, Any], int]:
    lines = [{"product": product.pk, "slot": None, "quantity": 1}]
    answer = requests.post(
        f"{office.base_url}/api/v1/reservations/", json={"event": product.event.slug, "lines": lines}, timeout=30
    )
    return answer.json(), answer.status_code


def _left(office: Office, product: Product) -> tuple[int, str]:
    address = f"{office.base_url}/api/v1/events/{product.event.slug}/availability/"
    (entry,) = requests.get(address, timeout=30).json()["products"]
    return entry["available"], entry["state"]
