"""Amounts: currencies with other cents or none, discounts that do not divide, an event's currency (HC-L)."""

import re
from decimal import Decimal

import pytest
from babel.numbers import parse_decimal
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.money import _THREE_DECIMAL, _ZERO_DECIMAL, Money, exponent
from payments import expiry, refunds, settlement
from payments.models import Payment
from reservations import holds
from reservations.models import Order, OrderLine
from tests.admin.test_catalogue import _event_form
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory, QuotaFactory, UserFactory
from tests.payments.posting import deliver, events_of
from tests.purchases import check_out, end_time, hold, order_of, ordered
from ticketing.models import Event, OutgoingEmail, Product, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

ODD = ["EUR", "USD", "GBP", "CHF", "HUF", "TWD", "ISK", "UGX"]
CURRENCIES = sorted({*_ZERO_DECIMAL, *_THREE_DECIMAL, *ODD})


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory(staff=True))
    return client


def priced(currency: str) -> tuple[Product, int]:
    """A product that costs so many minor units of its currency: 19 990 of them, whatever that comes to."""
    minor = 20_000 if currency in ("ISK", "UGX") else 19_990
    return ProductFactory(event=EventFactory(currency=currency), price_minor=minor, quotas__capacity=2), minor


def written(amount_minor: int, currency: str) -> Decimal:
    """What a person reads, as a number."""
    number = re.search(r"\d[\d.,]*", str(Money(amount_minor, currency))).group()
    return parse_decimal(number.strip("."), locale="en_GB")


@pytest.mark.row("HC-L1", "P11")
@pytest.mark.parametrize("currency", CURRENCIES)
def test_hc_l1_one_number_is_shown_sent_received_and_refunded(client, sandbox, currency):
    """HC-L1: 500 yen are 500 at Stripe and never 50 000; the second sale comes too late and goes back to the last unit."""
    product, minor = priced(currency)
    order, payment = ordered(client, product)
    asked = sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]
    assert (asked["amount"], asked["currency"]) == (minor, currency.lower())
    assert written(minor, currency) == Decimal(minor).scaleb(-exponent(currency))
    text = str(order.total)
    assert text in client.get(f"/reservations/{order.reservation_id}/checkout/").content.decode()
    sandbox.control.pay(payment.stripe_payment_intent_id)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    order.refresh_from_db()
    assert (order.status, order.needs_review, Payment.objects.get().amount_received_minor) == ("PAID", "", minor)
    assert OutgoingEmail.objects.get().context["order"]["total"] == text

    late, payment = ordered(client, product)
    end_time(late.reservation_id, seconds=700)
    expiry.force_release(late.pk, by="staff:1", why="a test")
    hold(product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(late.pk, by="poll")
    refunds.submit_due()
    ledger = {line["id"]: line for line in sandbox.control.ledger()["payment_intents"]}
    assert ledger[payment.stripe_payment_intent_id]["amount_refunded"] == minor
    letter = OutgoingEmail.objects.get(kind="refund")
    assert (letter.context["amount"], Ticket.objects.count()) == (text, 1)


@pytest.mark.row("HC-L1")
@pytest.mark.parametrize(
    ("currency", "typed", "minor"),
    [("JPY", "500", 500), ("KWD", "2.500", 2500), ("ISK", "500", 50_000), ("UGX", "500", 50_000), ("EUR", "5", 500)],
)
def test_hc_l1_what_staff_type_is_what_stripe_is_sent(client, sandbox, staff, currency, typed, minor):
    """HC-L1: from the form of the back office to the amount at Stripe, and back into the form."""
    product = ProductFactory(event=EventFactory(currency=currency), price_minor=0)
    address = reverse("admin:ticketing_product_change", args=[product.pk])
    answer = staff.post(address, _product_form(product, typed))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    ordered(client, Product.objects.get())
    (line,) = sandbox.control.ledger()["payment_intents"]
    assert (line["amount"], line["currency"]) == (minor, currency.lower())
    assert Decimal(staff.get(address).context["adminform"].form.initial["price"]) == Decimal(typed)


@pytest.mark.row("HC-L1")
@pytest.mark.parametrize(("currency", "typed"), [("JPY", "0.5"), ("KWD", "2.505"), ("ISK", "10.50"), ("UGX", "0.01")])
def test_hc_l1_a_price_that_no_card_can_be_charged_is_refused(staff, currency, typed):
    """HC-L1: Stripe takes thousandths in tens only, and of ISK and UGX whole ones (docs.stripe.com/currencies)."""
    product = ProductFactory(event=EventFactory(currency=currency), price_minor=5000)
    address = reverse("admin:ticketing_product_change", args=[product.pk])
    assert "price" in staff.post(address, _product_form(product, typed)).context["adminform"].form.errors
    product.refresh_from_db()
    assert product.price_minor == 5000


def _product_form(product: Product, price: str) -> dict[str, object]:
    fields = ("name", "kind", "max_per_order", "entries", "valid_days", "position", "description")
    kept = {name: value for name in fields if (value := getattr(product, name)) is not None}
    quotas = [quota.pk for quota in product.quotas.all()]
    return kept | {"event": product.event_id, "quotas": quotas, "price": price}


@pytest.mark.row("HC-L2", "T15")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    baskets=st.lists(st.tuples(st.integers(130, 9_999), st.integers(1, 7)), min_size=1, max_size=3),
    percent=st.integers(1, 60),
)
def test_hc_l2_the_lines_add_up_to_what_stripe_is_asked_for(client, sandbox, baskets, percent):
    """HC-L2: three lines of odd prices less an odd percentage: basket, order, its lines and Stripe say one number."""
    event = EventFactory()
    quota = QuotaFactory(event=event, capacity=100)
    products = [
        ProductFactory(event=event, price_minor=price, quotas=[quota], max_per_order=10) for price, _n in baskets
    ]
    code = PromoCodeFactory(event=event, percent_off=percent)
    wanted = [holds.Wanted(product.pk, None, n) for product, (_price, n) in zip(products, baskets, strict=True)]
    held = holds.reserve(event.slug, lines=wanted, key=None, promo_code=code.code)[0]
    shown = client.get(f"/api/v1/reservations/{held.id}/").json()["total"]["amount_minor"]
    assert check_out(client, held.id).status_code == 201
    order = order_of(held.id)
    lines = list(OrderLine.objects.filter(order=order))
    gross = sum(price * quantity for price, quantity in baskets)
    net = sum(unit.price_minor - unit.discount_minor for unit in lines)
    asked = sandbox.control.payment(order.payments.get().stripe_payment_intent_id)["payment_intent"]["amount"]
    assert shown == order.total_minor == net == asked
    assert abs(gross * percent - 100 * (gross - net)) < 100 * len(lines), "less than a minor unit a ticket off"
    for product in products:
        discounts = [unit.discount_minor for unit in lines if unit.product_id == product.pk]
        assert max(discounts) - min(discounts) <= 1, "the largest remainder: units differ by one at most"


@pytest.mark.row("HC-L3")
def test_hc_l3_the_currency_stays_while_there_are_holds(client, sandbox, staff):
    """HC-L3: refused with a reason, not just ignored; the hold is paid in what it was made in."""
    product = ProductFactory(event=EventFactory(currency="EUR"), price_minor=2500)
    held = hold(product)
    event = product.event
    address = reverse("admin:ticketing_event_change", args=[event.pk])
    refused = staff.post(address, _event_form(event, currency="JPY", name="Renamed"))
    assert refused.status_code == 200
    assert "The currency stays EUR" in refused.content.decode()
    event.refresh_from_db()
    assert (event.currency, event.name != "Renamed") == ("EUR", True), "nothing of that form is kept"
    page = staff.get(address).content.decode()
    assert 'name="currency"' not in page
    assert "Settled with the first product" in page
    assert staff.post(address, _event_form(event, currency="EUR", name="Renamed")).status_code == 302
    assert check_out(client, held.id).status_code == 201
    (line,) = sandbox.control.ledger()["payment_intents"]
    assert (line["amount"], line["currency"], Order.objects.get().currency) == (2500, "eur", "EUR")
    assert Event.objects.get().name == "Renamed"


@pytest.mark.row("HC-L3")
def test_hc_l3_a_hold_keeps_its_currency_though_the_events_is_changed_by_hand(client, sandbox):
    """HC-L3: in SQL, past every form: what was promised is what is charged."""
    held = hold(ProductFactory(event=EventFactory(currency="EUR"), price_minor=2500))
    Event.objects.update(currency="JPY")
    assert check_out(client, held.id).status_code == 201
    (line,) = sandbox.control.ledger()["payment_intents"]
    assert (line["amount"], line["currency"]) == (2500, "eur")
    payment = Payment.objects.get()
    sandbox.control.pay(payment.stripe_payment_intent_id)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (Order.objects.get().status, Order.objects.get().needs_review) == ("PAID", "")
