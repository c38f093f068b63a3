"""What a buyer is told about an order, by page and by contract, and who may ask."""

import pytest

from payments.models import Payment
from reservations.models import Order, OrderLine
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import check_out, hold, order_of, ordered
from ticketing.models import Ticket

pytestmark = pytest.mark.django_db

ADDRESSES = [
    ("get", "/api/v1/orders/{}/"),
    ("get", "/api/v1/orders/{}/status/"),
    ("post", "/api/v1/orders/{}/sync/"),
    ("post", "/api/v1/orders/{}/cancel/"),
    ("get", "/orders/{}/"),
    ("post", "/orders/{}/cancel/"),
]


def free_order(client, quantity: int = 1, **product) -> Order:
    held = hold(ProductFactory(free=True, **product), quantity)
    assert check_out(client, held.id).status_code == 201
    return order_of(held.id)


def status(client, order: Order) -> dict:
    answer = client.get(f"/api/v1/orders/{order.code}/status/?secret={order.secret}")
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.row("HC-C7")
@pytest.mark.parametrize(("method", "address"), ADDRESSES)
def test_hc_c7_unknown_code_and_wrong_secret_are_the_same_404(client, method, address):
    """HC-C7: no oracle: without the secret nobody learns whether an order exists."""
    order, other = free_order(client), free_order(client)
    call = getattr(client, method)
    tries = [
        (order.code, "?secret=" + other.secret),
        (order.code, "?secret=" + order.secret[:-1]),
        (order.code, "?secret=%C3%A9"),
        (order.code, "?secret="),
        (order.code, ""),
        ("NOSUCHCODE", "?secret=" + order.secret),
        (order.code.lower(), "?secret=" + order.secret),
    ]
    answers = [call(address.format(code) + query, headers={"X-Request-ID": "same-id-for-all"}) for code, query in tries]
    assert [answer.status_code for answer in answers] == [404] * len(tries)
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.row("HC-C7")
@pytest.mark.parametrize(("method", "address"), ADDRESSES)
def test_hc_c7_a_code_with_a_nul_is_a_404(client, method, address):
    """The database cannot even be asked for it."""
    assert getattr(client, method)(address.format("A%00B") + "?secret=x").status_code == 404


@pytest.mark.row("HC-C6", "T2")
def test_the_status_of_each_stage_in_words(client):
    """HC-C6: from our books alone; never "failed" while it is not known."""
    order = free_order(client, 2)
    paid = status(client, order)
    assert paid | {"message": ""} == {
        "order": "paid",
        "payment": "none",
        "tickets": 2,
        "refund": "none",
        "done": True,
        "next_poll_ms": 0,
        "sync_now": False,
        "message": "",
    }
    assert "are here" in paid["message"]
    OrderLine.objects.filter(pk=order.lines.first().pk).update(ticket=None)
    incomplete = status(client, order)
    assert (incomplete["tickets"], incomplete["done"], incomplete["next_poll_ms"]) == (1, False, 2000)
    assert "on their way" in incomplete["message"]
    Order.objects.update(status="AWAITING_PAYMENT")
    assert "Waiting" in status(client, order)["message"]
    payment = Payment.objects.create(
        order=order, amount_minor=1, currency="EUR", idempotency_key="k", request_params={}, stripe_session_id="cs"
    )
    Payment.objects.filter(pk=payment.pk).update(status="PROCESSING")
    processing = status(client, order)
    assert (processing["payment"], processing["done"]) == ("processing", False)
    assert "bank" in processing["message"]
    Order.objects.update(needs_review="odd")
    assert "by hand" in status(client, order)["message"]
    assert order.code in status(client, order)["message"]
    Payment.objects.update(status="CANCELLED")
    Order.objects.update(needs_review="", status="CANCELLED")
    closed = status(client, order)
    assert (closed["order"], closed["done"]) == ("cancelled", True)
    assert "not charged" in closed["message"]


@pytest.mark.row("T4", "T2")
def test_the_order_shows_its_lines_and_tickets(client):
    event = EventFactory()
    slot = SlotFactory(event=event)
    product = ProductFactory(event=event, free=True, five_classes=True, quotas=[QuotaFactory(event=event, slot=slot)])
    held = hold(product, 2, slot=slot)
    check_out(client, held.id)
    order = order_of(held.id)
    body = client.get(f"/api/v1/orders/{order.code}/?secret={order.secret}").json()
    assert (body["code"], body["status"], body["event"], body["refunds"]) == (order.code, "paid", event.slug, [])
    assert [(line["slot"], line["ticket"]) for line in body["lines"]] == [(slot.pk, 1), (slot.pk, 2)]
    first = body["tickets"][0]
    ticket = Ticket.objects.get(serial=1)
    assert (first["secret"], first["entries_total"], first["entries_used"]) == (ticket.secret, 5, 0)
    assert first["url"] == f"http://testserver/tickets/{ticket.secret}/"
    assert first["valid_from"].endswith("Z")
    assert first["valid_until"] > first["valid_from"]


@pytest.mark.row("HC-C15")
@pytest.mark.django_db(transaction=True)
def test_hc_c15_a_redirect_that_claims_success_proves_nothing(client, sandbox):
    """HC-C15: the page says it is confirming; no ticket, no payment."""
    order, payment = ordered(client, ProductFactory())
    claim = f"&payment_intent={payment.stripe_payment_intent_id}&redirect_status=succeeded"
    page = client.get(order.get_absolute_url() + claim)
    assert page.status_code == 200
    assert "Confirming your purchase" in page.content.decode()
    assert Order.objects.get().status == "AWAITING_PAYMENT"
    assert not Ticket.objects.exists()


@pytest.mark.row("P4")
@pytest.mark.django_db(transaction=True)
def test_asking_stripe_while_it_is_away_is_503_and_reading_goes_on(client, sandbox):
    order, _payment = ordered(client, ProductFactory())
    sandbox.control.add_fault("drop_before", path="/v1/*", count=3)
    answer = client.post(f"/api/v1/orders/{order.code}/sync/?secret={order.secret}")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert status(client, order)["order"] == "awaiting_payment"
    assert client.get(order.get_absolute_url()).status_code == 200


@pytest.mark.row("HC-C7")
def test_the_status_costs_the_same_queries_for_one_and_for_three_tickets(client, django_assert_num_queries):
    for order in (free_order(client, 1), free_order(client, 3)):
        with django_assert_num_queries(3):
            status(client, order)
