"""One id from request to log line to answer, and nothing private in any log."""

import json
import logging
import uuid

import pytest
import structlog
from django.test import Client

from config.logs import LONGEST_TEXT, without_secrets
from tests.factories import ProductFactory
from tests.purchases import BUYER, ask, check_out, hold, line, order_of
from ticketing.models import Ticket

pytestmark = pytest.mark.django_db


@pytest.mark.row("M9")
def test_a_well_formed_id_is_taken_over():
    answer = Client().get("/", headers={"X-Request-ID": "from-the-proxy.1"})
    assert answer["X-Request-ID"] == "from-the-proxy.1"


@pytest.mark.row("M9")
@pytest.mark.parametrize(
    "given", ["", "short", "x" * 65, "with blanks in it", "semi;colon;id", "line\tbreak-id", "é" * 9]
)
def test_anything_else_is_replaced_by_an_id_of_our_own(given):
    answer = Client().get("/", headers={"X-Request-ID": given})
    assert answer["X-Request-ID"] != given
    assert uuid.UUID(answer["X-Request-ID"])


@pytest.mark.row("M9")
@pytest.mark.parametrize(
    "path", ["/", "/nothing/", "/api/v1/events/", "/api/v1/nothing/", "/livez/", "/webhooks/stripe/"]
)
def test_every_answer_carries_one(path):
    client = Client()
    ids = {client.get(path)["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.row("M9")
def test_one_line_a_request_with_its_id_and_no_query(log_lines):
    Client().get("/events/nothing/?secret=top", headers={"X-Request-ID": "known-request-id"})
    written = [entry for entry in log_lines() if entry["event"] == "request"]
    assert len(written) == 1
    entry = written[0]
    assert (entry["request_id"], entry["method"], entry["path"], entry["status"]) == (
        "known-request-id",
        "GET",
        "/events/nothing/",
        404,
    )
    assert entry["timestamp"].endswith("Z")
    assert (entry["level"], entry["logger"]) == ("info", "config.request_id")


@pytest.mark.row("M9")
def test_probes_write_no_line(log_lines):
    Client().get("/livez/")
    assert log_lines() == []


@pytest.mark.row("M9")
def test_a_whole_purchase_leaves_nothing_private_in_the_log(log_lines):
    """M9: no address, no name, no secret, no reservation's id; and yet the order's code is there to be found."""
    client = Client()
    held = hold(ProductFactory(free=True))
    check_out(client, held.id)
    order = order_of(held.id)
    ticket = Ticket.objects.get()
    client.get(f"/reservations/{held.id}/")
    client.get(order.get_absolute_url())
    client.get(ticket.get_absolute_url())
    ask(client, "nothing", [line(ticket.product)])
    text = json.dumps(log_lines())
    for private in (BUYER["email"], BUYER["name"], order.secret, ticket.secret, str(held.id)):
        assert private not in text
    assert str(held.id)[:8] in text
    assert len(log_lines()) >= 5


@pytest.mark.row("M9")
def test_what_slips_into_a_line_is_taken_out_again(log_lines):
    """M9: as a field, in a message of a library, in a nested value, in a traceback."""
    secret, address = "pi_123_secret_Abc456", "ada.lovelace+x@mail.example.org"
    log = structlog.get_logger("tests")
    log.warning(
        "stripe said", detail=f"client secret {secret}", to=[address], more={"url": "/orders/X/?secret=top5&a=1"}
    )
    logging.getLogger("some.library").error("mail to %s failed for /tickets/abcDEF-_9/", address)
    try:
        raise ValueError(f"{address} {secret} /reservations/0e6a1c2e-1111-4222-8333-944445555666/")
    except ValueError:
        log.exception("it broke")
    written = log_lines()
    text = json.dumps(written, ensure_ascii=False)
    for private in ("Abc456", address, "lovelace", "top5", "abcDEF", "944445555666"):
        assert private not in text
    assert "pi_123_secret_…" in text
    assert "ValueError" in text
    assert [entry["level"] for entry in written] == ["warning", "error", "error"]
    assert all(entry["timestamp"] for entry in written)


def test_a_long_text_is_cut_before_it_is_searched():
    """Anybody can send a path of megabytes; what is searched and written stays bounded."""
    text = without_secrets("a" * 1_000_000 + "@example.org")
    assert len(text) < LONGEST_TEXT + 100
    assert without_secrets("write to ada.lovelace@mail.example.org now") == "write to …@… now"
