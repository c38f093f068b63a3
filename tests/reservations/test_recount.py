"""The counters against the books: what differs is found, mended when asked, and never invented while buyers buy."""

import json
import time
from functools import partial

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from reservations import holds, recount
from reservations.models import OrderLine, PromoCode, Reservation
from tests.factories import ProductFactory
from tests.purchases import check_out, counters, end_time, hold, order_of, sql, stock_of
from tests.purchases import recount as counted
from tests.races import at_once, of_type
from ticketing import quotas
from ticketing.models import Product, Quota

pytestmark = pytest.mark.django_db


def quota_of(product: Product, **stored: int) -> Quota:
    """The product's only quota; `stored` alters its counters by hand."""
    Quota.objects.filter(products=product).update(**stored or {"name": "Hall"})
    return product.quotas.get()


def used_code(product: Product, **more) -> PromoCode:
    """A promo code with one use, of a living hold."""
    code = PromoCode.objects.create(event=product.event, code="SPRING", percent_off=10, **more)
    Reservation.objects.filter(pk=hold(product).id).update(promo_code=code)
    PromoCode.objects.update(uses=1)
    return code


def run(capsys, **options) -> tuple[int, dict]:
    """Exit code and findings of the command."""
    code = 0
    try:
        call_command("recount_quotas", json=True, **options)
    except CommandError as error:
        code = error.returncode
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.row("H2", "H8")
def test_books_in_order_are_said_to_be_so(client, capsys):
    """Living, over, ordered, paid, given back; a promo code with its use."""
    product = ProductFactory(free=True, quotas__capacity=50)
    hold(product, 2)
    end_time(hold(product).id, seconds=400)
    Reservation.objects.filter(pk=hold(product, 3).id).update(status="ORDERED")
    check_out(client, hold(product, 4).id)
    holds.release(hold(product).id)
    used_code(product)
    assert stock_of(product) == (7, 4)
    assert run(capsys) == (0, {"differing": [], "holds_over_5_minutes": 1})
    assert run(capsys, mend=True) == (0, {"differing": [], "holds_over_5_minutes": 1})
    call_command("recount_quotas")
    assert capsys.readouterr().out.splitlines() == [
        "0 counters differ from the books",
        "1 holds are stored as active 5 minutes after their end",
    ]


@pytest.mark.row("H2")
def test_a_counter_that_differs_is_shown_and_left_alone_unless_asked(client, capsys):
    product = ProductFactory(free=True)
    hold(product, 2)
    check_out(client, hold(product).id)
    quota = quota_of(product, held=4, sold=0)
    code, found = run(capsys)
    assert code == 1
    (finding,) = found["differing"]
    assert (finding["kind"], finding["id"], finding["is_mended"]) == ("quota", quota.pk, False)
    assert (finding["stored"], finding["counted"]) == ({"held": 4, "sold": 0}, {"held": 2, "sold": 1})
    assert counters(quota) == (4, 0)


@pytest.mark.row("H2")
def test_mending_sets_the_counter_to_what_was_counted(client, capsys, caplog):
    product, other = ProductFactory(free=True), ProductFactory()
    hold(product, 2)
    check_out(client, hold(product).id)
    quota, untouched = quota_of(product, held=0, sold=5), quota_of(other)
    code, found = run(capsys, mend=True)
    assert (code, found["differing"][0]["is_mended"]) == (0, True)
    assert counters(quota) == counted(quota) == (2, 1)
    assert counters(untouched) == (0, 0)
    assert "counter mended" in caplog.text
    assert run(capsys) == (0, {"differing": [], "holds_over_5_minutes": 0})


@pytest.mark.row("H2", "H3")
def test_what_the_capacity_does_not_allow_is_not_mended_and_the_remedy_is_named(capsys):
    """H3: the counter was lowered by hand, then the capacity: the books say more than there is."""
    product, easy = ProductFactory(quotas__capacity=5), ProductFactory()
    hold(product, 4)
    hold(easy)
    quota, mendable = quota_of(product, held=0, capacity=3), quota_of(easy, held=0)
    with pytest.raises(CommandError, match="1 could not be mended"):
        call_command("recount_quotas", mend=True)
    said = capsys.readouterr().out
    assert "its capacity is 3: raise it to 4" in said
    assert (counters(quota), counters(mendable)) == ((0, 0), (1, 0))
    Quota.objects.filter(pk=quota.pk).update(capacity=4)
    assert run(capsys, mend=True)[0] == 0
    assert counters(quota) == (4, 0)


@pytest.mark.row("H2")
def test_a_unit_that_no_longer_counts_as_sold_is_not_counted(client, capsys):
    """As after a refund: its order line says so, and the counter went down with it."""
    product = ProductFactory(free=True)
    held = hold(product, 3)
    check_out(client, held.id)
    OrderLine.objects.filter(order=order_of(held.id), position=1).update(is_sold=False)
    quotas.move_stock({product.quotas.get().pk: quotas.Move(sold=-1)})
    assert stock_of(product) == (0, 2)
    assert run(capsys)[0] == 0


@pytest.mark.row("H17")
def test_uses_of_promo_codes_are_recounted_too(capsys):
    """H17: counted are reservations that are active, ordered or confirmed with it."""
    product = ProductFactory()
    code = used_code(product, max_uses=3)
    given_back = hold(product)
    Reservation.objects.filter(pk=given_back.id).update(promo_code=code, status="RELEASED")
    quota_of(product, held=1)
    PromoCode.objects.update(uses=3)
    exit_code, found = run(capsys)
    assert (exit_code, [(f["kind"], f["name"]) for f in found["differing"]]) == (1, [("promo_code", "SPRING")])
    assert run(capsys, mend=True)[0] == 0
    code.refresh_from_db()
    assert code.uses == 1


@pytest.mark.row("H17")
def test_more_uses_than_the_code_allows_are_left_to_staff(capsys):
    product = ProductFactory()
    code = used_code(product)
    Reservation.objects.filter(pk=hold(product).id).update(promo_code=code)
    PromoCode.objects.update(max_uses=1)
    with pytest.raises(CommandError, match="1 could not be mended"):
        call_command("recount_quotas", mend=True)
    assert "it allows 1 uses: allow 2" in capsys.readouterr().out
    code.refresh_from_db()
    assert code.uses == 1


@pytest.mark.row("H2")
def test_one_event_alone_can_be_recounted_and_an_unknown_one_is_refused(capsys):
    wrong, right = ProductFactory(), ProductFactory()
    quota_of(wrong, held=1)
    assert run(capsys, event=right.event.slug)[0] == 0
    assert run(capsys, event=wrong.event.slug)[0] == 1
    with pytest.raises(CommandError, match="no event nowhere") as refusal:
        call_command("recount_quotas", event="nowhere")
    assert refusal.value.returncode == 2


def trade(client, product: Product, times: int) -> int:
    """Takes, gives back, lets run out and buys, in turn."""
    for n in range(times):
        held = hold(product)
        if n % 3 == 0:
            holds.release(held.id)
        elif n % 3 == 1:
            end_time(held.id)
            holds.release_expired()
        else:
            assert check_out(client, held.id).status_code == 201
    return times


@pytest.mark.row("H2", "H3")
@pytest.mark.django_db(transaction=True)
def test_recounting_and_mending_while_buyers_trade_finds_no_drift_and_makes_none(client):
    """V2: four buyers; one who compares without a lock, and one who counts and sets under it, all the while."""
    product = ProductFactory(free=True, quotas__capacity=200)
    quota = product.quotas.get()
    (row,) = [
        recount.Count("quota", quota.pk, "", "", stored={"held": 0, "sold": 0}, counted={"held": 1, "sold": 0}, limit=1)
    ]

    def compare() -> list[recount.Count]:
        return [found for _ in range(60) for found in recount.differing()]

    def mend() -> list[recount.Count]:
        return [found for _ in range(60) if not (found := recount.mend(row, by="test")).is_right]

    results = at_once([*[partial(trade, client, product, 12)] * 4, compare, mend, mend])
    assert results == [12] * 4 + [[], [], []]
    assert counters(quota) == counted(quota) == (0, 16)


@pytest.mark.row("H2")
@pytest.mark.django_db(transaction=True)
def test_counting_before_the_lock_would_make_drift(client):
    """V2, the guard off: what was counted before a buyer's commit is written after it."""
    product = ProductFactory(free=True, quotas__capacity=200)
    quota = product.quotas.get()

    def mend_naively() -> None:
        held, sold = counted(quota)
        while counted(quota)[1] == sold:
            time.sleep(0.005)  # until a buyer has bought
        with transaction.atomic():
            sql("SELECT FROM ticketing_quota WHERE id = %s FOR NO KEY UPDATE", [quota.pk])
            sql("UPDATE ticketing_quota SET held = %s, sold = %s WHERE id = %s", [held, sold, quota.pk])

    results = at_once([*[partial(trade, client, product, 9)] * 3, mend_naively])
    assert counters(quota) != counted(quota) or of_type(results, Exception)


@pytest.mark.row("H2")
@pytest.mark.django_db(transaction=True)
def test_real_drift_is_mended_while_buyers_trade(client):
    """V2: the counter was altered by hand in the middle of a sale; mended between two commits of the buyers."""
    product = ProductFactory(free=True, quotas__capacity=200)
    quota = product.quotas.get()
    hold(product, 5)
    quota_of(product, held=20)

    def mend() -> int:
        return sum(1 for found in recount.differing() if recount.mend(found, by="test").fits)

    results = at_once([*[partial(trade, client, product, 9)] * 3, mend])
    assert results == [9, 9, 9, 1]
    assert counters(quota) == counted(quota) == (5, 9)
