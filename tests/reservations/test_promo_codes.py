"""Promo codes as the hold engine knows them: what they take off, for whom, how often, and when a use comes back."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from config.money import Money
from reservations import holds, orders, placement, pricing, purge
from reservations.models import Order, PromoCode, Reservation
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory
from tests.purchases import BUYER, end_time, hold, stock_of
from ticketing.models import Product

pytestmark = pytest.mark.django_db


def take(*products: Product, quantity: int = 1, code: str | PromoCode = "", buyer: str = "", **more: Any) -> holds.Hold:
    lines = [holds.Wanted(product.pk, None, quantity) for product in products]
    hold, _was_there = holds.reserve(products[0].event.slug, lines=lines, promo_code=str(code), buyer_key=buyer, **more)
    return hold


def place(hold: holds.Hold, **buyer: str) -> Order:
    with transaction.atomic():
        return placement.place(hold.id, **(BUYER | buyer))[0]


def end(order: Order, how: str) -> None:
    with transaction.atomic():
        locked = orders.lock(order.pk)
        if how == "confirmed":
            orders.confirm(locked, by="test", why="paid")
        else:
            orders.cancel(locked, to="EXPIRED", by="test", why="not paid")


def uses(code: PromoCode) -> int:
    return PromoCode.objects.get(pk=code.pk).uses


# --- what it takes off -----------------------------------------------------------------------------------------------


@pytest.mark.row("T15", "H17")
@pytest.mark.parametrize(
    ("price", "percent", "off"),
    [
        (2500, 10, 250),
        (333, 50, 167),
        (1, 50, 1),
        (1, 49, 0),
        (99, 1, 1),
        (49, 1, 0),
        (50, 1, 1),
        (777, 100, 777),
        (0, 10, 0),
    ],
)
def test_a_percentage_is_rounded_half_up_for_one_unit(price, percent, off):
    """T15, H17: so that equal tickets cost the same, and three cost three times one."""
    product = ProductFactory(price_minor=price)
    hold = take(product, quantity=3, code=PromoCodeFactory(event=product.event, percent_off=percent))
    assert hold.discount == Money(3 * off, "EUR")
    assert hold.total == Money(3 * (price - off), "EUR")


@pytest.mark.row("T15", "H17")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(price=st.integers(0, 10**9), percent=st.integers(1, 100), quantity=st.integers(1, 10))
def test_a_discount_is_never_above_the_price_and_its_parts_add_up(price, percent, quantity):
    """H17: line and order agree to the cent, unit by unit."""
    product = ProductFactory(price_minor=price)
    hold = take(product, quantity=quantity, code=PromoCodeFactory(event=product.event, percent_off=percent))
    (line,) = hold.lines
    unit = (price * percent * 2 + 100) // 200  # half up, in whole numbers
    assert line.discount.amount_minor == unit * quantity
    assert 0 <= unit <= price
    units = pricing.unit_prices(Reservation.objects.get(pk=hold.id).lines.get())
    assert {(each.price_minor, each.discount_minor) for each in units} == {(price, unit)}
    assert place(hold).total_minor == hold.total.amount_minor == (price - unit) * quantity


@pytest.mark.row("T15")
def test_an_amount_is_taken_off_each_ticket_and_never_more_than_it_costs():
    event = EventFactory()
    dear, cheap = ProductFactory(event=event, price_minor=500), ProductFactory(event=event, price_minor=150)
    hold = take(dear, cheap, quantity=2, code=PromoCodeFactory(event=event, two_euros=True))
    assert {line.product_id: line.discount.amount_minor for line in hold.lines} == {dear.pk: 400, cheap.pk: 300}
    assert hold.total == Money(600, "EUR")


@pytest.mark.row("T15")
def test_an_amount_beyond_all_prices_makes_it_free_and_no_more():
    product = ProductFactory(price_minor=1)
    code = PromoCodeFactory(event=product.event, percent_off=None, amount_off_minor=2**63 - 1)
    assert take(product, quantity=5, code=code).total == Money(0, "EUR")


@pytest.mark.row("T15", "H17")
def test_a_line_outside_the_scope_costs_its_full_price():
    """T15: at least one line must be in scope; the others are simply not cheaper."""
    event = EventFactory()
    inside, outside = (ProductFactory(event=event, price_minor=1000) for _ in range(2))
    code = PromoCodeFactory(event=event, percent_off=20, products=[inside])
    both = take(inside, outside, code=code)
    assert {line.product_id: line.discount.amount_minor for line in both.lines} == {inside.pk: 200, outside.pk: 0}
    with pytest.raises(holds.InvalidPromoCode) as refusal:
        take(outside, code=code)
    assert refusal.value.reason == "not_for_these"
    assert uses(code) == 1


@pytest.mark.row("T15", "HC-K3")
def test_the_discount_of_the_moment_is_kept():
    """HC-K3: the code is changed, narrowed and stopped while the hold lives; order and hold keep what was promised."""
    product = ProductFactory(price_minor=1000)
    code = PromoCodeFactory(event=product.event, percent_off=30)
    hold = take(product, code=code)
    code.products.set([ProductFactory(event=product.event)])
    PromoCode.objects.update(percent_off=5, is_stopped=True, ends_at=timezone.now() - timedelta(days=1))
    Product.objects.update(price_minor=9999)
    assert holds.look_up(hold.id).total == Money(700, "EUR")
    assert place(hold).total_minor == 700


# --- who may use it --------------------------------------------------------------------------------------------------


@pytest.mark.row("T15")
@pytest.mark.parametrize("typed", ["spring", "Spring", "  SPRING ", "sPRING"])
def test_buyers_may_type_it_as_they_like(typed):
    product = ProductFactory()
    PromoCodeFactory(event=product.event, code="SPRING")
    assert take(product, code=typed).promo_code == "SPRING"


@pytest.mark.row("T15")
@pytest.mark.parametrize(
    ("trait", "reason"), [("stopped", "not_valid_now"), ("not_yet", "not_valid_now"), ("over", "not_valid_now")]
)
def test_a_code_outside_its_time_is_refused_and_takes_nothing(trait, reason):
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event, **{trait: True})
    with pytest.raises(holds.InvalidPromoCode) as refusal:
        take(product, code=code)
    assert refusal.value.reason == reason
    assert (stock_of(product), uses(code)) == ((0, 0), 0)


@pytest.mark.row("T15")
@pytest.mark.parametrize("typed", ["NOPE", "SPRIN", "SPRING!", "%", "SPRING'--", "ſpring"])
def test_what_is_no_code_of_this_event_is_unknown(typed):
    """T15: another event's code too."""
    product, other = ProductFactory(), ProductFactory()
    PromoCodeFactory(event=product.event, code="OTHERS")
    PromoCodeFactory(event=other.event, code="SPRING")
    with pytest.raises(holds.InvalidPromoCode) as refusal:
        take(product, code=typed)
    assert refusal.value.reason == "unknown"
    assert stock_of(product) == (0, 0)


@pytest.mark.row("T15")
def test_its_window_is_the_databases_clock_to_the_moment():
    product = ProductFactory()
    now = timezone.now()
    code = PromoCodeFactory(
        event=product.event, starts_at=now - timedelta(minutes=1), ends_at=now + timedelta(minutes=1)
    )
    assert take(product, code=code).promo_code == code.code
    PromoCode.objects.update(starts_at=None, ends_at=None)
    assert take(product, code=code).promo_code == code.code


@pytest.mark.row("T15")
def test_a_used_up_code_is_told_before_the_hold_and_takes_nothing():
    """T15: also where seats are left; sold out comes first where they are not."""
    product = ProductFactory(quotas__capacity=3)
    code = PromoCodeFactory(event=product.event, max_uses=2)
    for _ in range(2):
        take(product, code=code)
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code)
    assert (stock_of(product), uses(code)) == ((2, 0), 2)
    with pytest.raises(holds.SoldOut):
        take(product, quantity=2, code=code)
    take(product)


@pytest.mark.row("T15")
def test_a_code_for_nobody_is_used_up_from_the_start():
    product = ProductFactory()
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=PromoCodeFactory(event=product.event, max_uses=0))


@pytest.mark.row("T15")
def test_a_sold_out_request_uses_no_code():
    product = ProductFactory(quotas__capacity=1)
    code = PromoCodeFactory(event=product.event, last_use=True)
    with pytest.raises(holds.SoldOut):
        take(product, quantity=2, code=code)
    assert uses(code) == 0
    take(product, code=code)


# --- how often, and when a use comes back ----------------------------------------------------------------------------


@pytest.mark.row("T15", "HC-K4")
@pytest.mark.parametrize("ending", ["released", "taken back", "swept", "order cancelled"])
def test_hc_k4_a_use_is_freed_when_its_hold_ends_unpaid(ending):
    """HC-K4: one use left: the second is told at once; when the first ends, the next may use it, and only one."""
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event, last_use=True)
    first = take(product, code=code)
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code)
    if ending == "order cancelled":
        end(place(first), "cancelled")
    elif ending == "released":
        holds.release(first.id)
    else:
        end_time(first.id)
    if ending == "swept":
        assert uses(code) == 1
        holds.release_expired()
    assert uses(code) == (1 if ending == "taken back" else 0)
    second = take(product, code=code)
    assert (uses(code), second.discount) == (1, first.discount)
    assert Reservation.objects.get(pk=first.id).status in ("RELEASED", "EXPIRED")
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code)


@pytest.mark.row("T15", "HC-K4")
@pytest.mark.parametrize("status", ["ordered", "ordered, past its time", "confirmed"])
def test_hc_k4_a_use_that_may_be_paid_or_is_paid_is_kept(status):
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event, last_use=True)
    hold = take(product, code=code)
    order = place(hold)
    if status == "confirmed":
        end(order, "confirmed")
    else:
        end_time(hold.id, seconds=60 if "past" in status else -60)
    holds.release_expired()
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code)
    assert uses(code) == 1


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_ending_twice_frees_once():
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event)
    first, _second = take(product, code=code), take(product, code=code)
    for _ in range(2):
        holds.release(first.id)
    assert uses(code) == 1


@pytest.mark.row("T15", "H8")
def test_a_sweep_frees_the_uses_of_many_codes_at_once():
    """Several codes, one of them several times, in one batch."""
    event = EventFactory()
    product = ProductFactory(event=event, quotas__capacity=50)
    codes = [PromoCodeFactory(event=event) for _ in range(3)]
    for code, number in zip(codes, (1, 3, 5), strict=True):
        for _ in range(number):
            end_time(take(product, code=code).id)
    living = take(product, code=codes[1])
    holds.release_expired()
    assert [uses(code) for code in codes] == [0, 1, 0]
    assert stock_of(product) == (1, 0)
    assert Reservation.objects.get(pk=living.id).status == "ACTIVE"


@pytest.mark.row("T15", "H8")
def test_a_purged_hold_takes_no_use_with_it():
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event, max_uses=2)
    gone, kept = take(product, code=code), take(product, code=code)
    holds.release(gone.id)
    Reservation.objects.filter(pk=gone.id).update(ended_at=timezone.now() - timedelta(days=400))
    purge.purge_old_rows(by="command")
    assert not Reservation.objects.filter(pk=gone.id).exists()
    assert (uses(code), Reservation.objects.get().pk) == (1, kept.id)


@pytest.mark.row("T15", "HC-K4")
def test_one_buyer_uses_it_as_often_as_one_buyer_may():
    """T15: while the buyer is a browser: counted are holds that live, orders, and what was bought."""
    event = EventFactory()
    product = ProductFactory(event=event, quotas__capacity=20)
    code = PromoCodeFactory(event=event, max_uses_per_buyer=2)
    end(place(take(product, code=code, buyer="ada"), email="one@example.org"), "confirmed")
    second = take(product, code=code, buyer="ada")
    place(second, email="two@example.org")
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code, buyer="ada")
    take(product, code=code, buyer="bob")
    take(product, buyer="ada")  # without it
    end(Order.objects.get(reservation=second.id), "cancelled")
    holds.release(Reservation.objects.get(buyer_key="ada", status="ACTIVE").pk)
    assert take(product, code=code, buyer="ada").discount.amount_minor == 250


@pytest.mark.row("T15", "HC-K4", "HC-A10")
def test_a_hold_past_its_time_is_no_use_of_its_buyers():
    """HC-A10: nobody has swept it or taken it back; the buyer whose time ran out may try again."""
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event, once_each=True)
    first = take(product, code=code, buyer="ada")
    end_time(first.id)
    second = take(product, code=code, buyer="ada")
    assert second.id != first.id
    assert second.discount == first.discount


@pytest.mark.row("T15", "HC-K4")
def test_one_address_uses_it_as_often_as_one_buyer_may():
    """T15: at the checkout the buyer has an address, written in any case; a cancelled order does not count."""
    event = EventFactory()
    product = ProductFactory(event=event, quotas__capacity=20)
    code = PromoCodeFactory(event=event, once_each=True)
    first = place(take(product, code=code), email="Ada@Example.org")
    second = take(product, code=code)
    with pytest.raises(holds.PromoCodeUsedUp):
        place(second, email="ada@example.org")
    assert Reservation.objects.get(pk=second.id).status == "ACTIVE"
    other = place(second, email="bob@example.org")
    with pytest.raises(holds.PromoCodeUsedUp):  # nor by a correction afterwards
        place(second, email="ADA@example.org")
    assert Order.objects.get(pk=other.pk).email == "bob@example.org"
    assert place(take(product), email="ada@example.org").total_minor == 2500  # without it
    end(first, "cancelled")
    assert place(take(product, code=code), email="ada@example.org").total_minor == 2250


@pytest.mark.row("T15", "HC-A3")
def test_the_code_is_part_of_what_a_key_stands_for():
    """HC-A3: the same key with another code, or with none, is another request; typed otherwise it is the same."""
    product = ProductFactory()
    codes = [PromoCodeFactory(event=product.event) for _ in range(2)]
    key = "k" * 16
    first = take(product, code=codes[0], key=key)
    assert take(product, code=codes[0].code.lower(), key=key).id == first.id
    for other in ("", codes[1]):
        with pytest.raises(holds.KeyReused):
            take(product, code=other, key=key)
    assert [uses(code) for code in codes] == [1, 0]


@pytest.mark.row("HC-A7", "T15")
def test_joining_a_hold_uses_no_second_code():
    """HC-A7: the second tab is shown the first one's hold, with the code that has or without."""
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event)
    first = take(product, buyer="ada")
    assert take(product, code=code, buyer="ada").promo_code == ""
    assert take(product, code="no such code", buyer="ada").id == first.id
    assert uses(code) == 0


# --- the database's own guards ---------------------------------------------------------------------------------------


@pytest.mark.row("T15")
@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ({"uses": 3}, "promo_code_is_never_overused"),
        ({"uses": -1}, "promo_code_is_never_overused"),
        ({"uses": 1, "max_uses": 0}, "promo_code_is_never_overused"),
        ({"code": "small"}, "promo_code_is_in_capitals"),
        ({"percent_off": None}, "promo_code_is_percent_or_amount"),
        ({"amount_off_minor": 5}, "promo_code_is_percent_or_amount"),
        ({"percent_off": 101}, "promo_code_percent_is_at_most_100"),
        ({"percent_off": 0}, "promo_code_percent_is_at_most_100"),
    ],
)
def test_the_database_refuses_by_name_whoever_writes(change, guard):
    PromoCodeFactory(max_uses=2)
    with pytest.raises(IntegrityError, match=guard), transaction.atomic():
        PromoCode.objects.update(**change)


@pytest.mark.row("T15")
def test_most_uses_cannot_be_lowered_below_what_is_used():
    product = ProductFactory()
    code = PromoCodeFactory(event=product.event)
    for _ in range(3):
        take(product, code=code)
    with pytest.raises(IntegrityError, match="promo_code_is_never_overused"), transaction.atomic():
        PromoCode.objects.update(max_uses=2)
    PromoCode.objects.update(max_uses=3)
    with pytest.raises(holds.PromoCodeUsedUp):
        take(product, code=code)


@pytest.mark.row("T15")
def test_one_event_has_a_code_once_and_another_may_have_it_too():
    code = PromoCodeFactory(code="SPRING")
    PromoCodeFactory(code="SPRING")
    with pytest.raises(IntegrityError, match="promo_codes_of_an_event_differ"), transaction.atomic():
        PromoCodeFactory(event=code.event, code="SPRING")


@pytest.mark.row("T15")
@pytest.mark.parametrize("discount", [{"percent_off": None}, {"percent_off": 10, "amount_off_minor": 100}])
def test_staff_give_either_a_percentage_or_an_amount(discount):
    code = PromoCodeFactory.build(event=EventFactory(), code="spring", **discount)
    with pytest.raises(ValidationError, match="either a percentage or an amount"):
        code.clean()
    assert code.code == "SPRING"


@pytest.mark.row("T15")
@pytest.mark.django_db(transaction=True)
def test_a_used_up_code_is_not_told_as_sold_out():
    """T15: also while somebody else is busy with an ended hold of the same quota."""
    event = EventFactory()
    product = ProductFactory(event=event)
    code = PromoCodeFactory(event=event, last_use=True)
    wanted = {"lines": [holds.Wanted(product.pk, None, 1)], "promo_code": code.code}
    holds.reserve(event.slug, **wanted)
    ended = hold(product)
    end_time(ended.id)
    parameters = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**parameters) as other:
        other.execute("SELECT FROM reservations_reservation WHERE id = %s FOR NO KEY UPDATE", [ended.id])
        with pytest.raises(holds.PromoCodeUsedUp):
            holds.reserve(event.slug, **wanted)
