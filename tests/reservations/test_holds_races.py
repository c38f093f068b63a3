"""Buyers at the same moment, on real connections; each race is first shown to be lost with its guard off.

`one_by_one`: each thread goes to the database itself, as the threads of different processes do. `together`: both that
way, and combined as the threads of one process are.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from psycopg import errors

from reservations import batching, holds, orders, placement
from reservations.models import Order, PromoCode, Reservation, ReservationKey
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory, QuotaFactory
from tests.purchases import BUYER, check_out, counters, end_time, hold, order_of, recount, sql, stock_of
from tests.races import at_once, of_type
from tests.reservations.guards import slow, without
from ticketing import quotas
from ticketing.models import OutgoingEmail, Product, Quota, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

BUYERS = 50
KEY = "k" * 16

# The guards, as they stand in reservations_reserve.
LOCK_ON_QUOTAS = "PERFORM FROM ticketing_quota WHERE id = ANY (v_lock) ORDER BY id FOR NO KEY UPDATE;"
LOCK_ON_CODES = "PERFORM FROM reservations_promocode WHERE id = ANY (v_lock_codes) ORDER BY id FOR NO KEY UPDATE;"
LOCK_ON_TURNS = "PERFORM pg_advisory_xact_lock(turn) FROM ("
NO_LOCK_ON_TURNS = "PERFORM turn FROM ("
DECISION = "v_is_granted[i] := NOT v_is_short AND (v_code_of[i] = 0 OR v_code_left[v_code_of[i]] > 0);"
GIVING_BACK = "PERFORM reservations_end(v_over,"
SKIPPING = "FOR NO KEY UPDATE OF r SKIP LOCKED"
# ... and in reservations_end.
STILL_FROM = "AND status = p_from"

# Reads, waits a moment as a slow view would, and writes what it computed: no lock, no addition in place.
NAIVE_MOVE = """
CREATE OR REPLACE FUNCTION ticketing_move_stock(p_quotas bigint[], p_held int[], p_sold int[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_held int;
BEGIN
    SELECT held INTO v_held FROM ticketing_quota WHERE id = p_quotas[1];
    PERFORM pg_sleep(0.05);
    UPDATE ticketing_quota SET held = v_held + p_held[1] WHERE id = p_quotas[1];
END $$
"""


def claims_of(quota: Quota) -> int:
    return sum(recount(quota))


def take(product: Product, **request: Any) -> tuple[holds.Hold, bool]:
    """`holds.reserve` of one unit."""
    return holds.reserve(product.event.slug, lines=[holds.Wanted(product.pk, None, 1)], **request)


def many(threads: int, each: int, call: Callable[[], Any]) -> list[Any]:
    """So many threads make `call` so many times each; all results, an exception being one. Fewer connections than calls."""

    def calls() -> list[Any]:
        return [_result(call) for _ in range(each)]

    return [result for results in at_once([calls] * threads) for result in results]


def _result(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def is_asleep() -> bool:
    """Whether some session stands at a `pg_sleep` now."""
    return _some_session("wait_event = 'PgSleep'")


def _waits_for_a_row() -> bool:
    """Whether some session waits for another's lock now."""
    return _some_session("wait_event_type = 'Lock'")


def _some_session(condition: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees the same picture until then
        cursor.execute(f"SELECT FROM pg_stat_activity WHERE {condition} AND datname = current_database()")
        return cursor.rowcount > 0


# --- the last seat ---------------------------------------------------------------------------------------------------


@pytest.mark.row("H1", "H3", "HC-A5")
def test_hc_a5_last_seat_has_one_buyer(together):
    """HC-A5: two hundred buyers, one seat: one hold, 199 told sold out with nothing left, no deadlock, nothing else."""
    product = ProductFactory(quotas__capacity=1)
    results = many(40, 5, partial(hold, product))
    assert len(of_type(results, holds.Hold)) == 1
    refused = of_type(results, holds.SoldOut)
    assert len(refused) == 199
    assert {line["available"] for error in refused for line in error.lines} == {0}
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H1", "HC-A5")
def test_hc_a5_last_seat_has_one_buyer_twenty_times_over(together):
    """HC-A5: run x20."""
    event = EventFactory()
    products = [ProductFactory(event=event, quotas__capacity=1) for _ in range(20)]

    def after_each_seat() -> list[Any]:
        return [_result(partial(hold, product)) for product in products]

    results = at_once([after_each_seat] * 20)
    for attempts in zip(*results, strict=True):
        assert len(of_type(attempts, holds.Hold)) == 1
        assert len(of_type(attempts, holds.SoldOut)) == 19
    assert {stock_of(product) for product in products} == {(1, 0)}


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_without_locks_and_without_the_constraint_the_last_seat_is_sold_many_times(altered_database, one_by_one):
    """HC-A5, the guards off: what the two of them are for."""
    product = ProductFactory(quotas__capacity=1)
    sql(NAIVE_MOVE)
    without(LOCK_ON_QUOTAS, "reservations_reserve")
    sql("ALTER TABLE ticketing_quota DROP CONSTRAINT quota_is_never_oversold")
    results = at_once([partial(hold, product)] * 10)
    assert len(of_type(results, holds.Hold)) > 1
    assert claims_of(product.quotas.get()) > 1


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_the_constraint_alone_still_refuses_to_oversell(altered_database, together):
    """HC-A5: the decision is wrong and the lock is gone; whoever adds to the counter meets the constraint, by name."""
    product = ProductFactory(quotas__capacity=1)
    without(LOCK_ON_QUOTAS, "reservations_reserve")
    without(DECISION, "reservations_reserve", instead="v_is_granted[i] := true;")
    results = at_once([partial(hold, product)] * 20)
    assert len(of_type(results, holds.Hold)) == 1
    refused = of_type(results, IntegrityError)
    assert len(refused) == 19
    assert all("quota_is_never_oversold" in str(error) for error in refused)
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_thirty_seats_go_to_exactly_thirty_of_fifty(together):
    product = ProductFactory(quotas__capacity=30)
    results = at_once([partial(hold, product)] * BUYERS)
    assert len(of_type(results, holds.Hold)) == 30
    assert len(of_type(results, holds.SoldOut)) == 20
    assert stock_of(product) == recount(product.quotas.get()) == (30, 0)


@pytest.mark.row("H4", "HC-A5", "HC-A10")
def test_hc_a10_fifty_buyers_share_what_ended_holds_give_back(together):
    """HC-A10: ten seats, all in holds past their time, no sweeper: ten of fifty get them, and it adds up."""
    product = ProductFactory(quotas__capacity=10)
    for _ in range(10):
        end_time(hold(product).id)
    results = at_once([partial(hold, product)] * BUYERS)
    granted = len(of_type(results, holds.Hold))
    assert granted + len(of_type(results, holds.SoldOut)) == BUYERS
    assert stock_of(product) == recount(product.quotas.get())
    # Whoever was told "sold out" while others gave back may ask again: every seat finds its buyer.
    for _ in range(10 - granted):
        hold(product)
    assert stock_of(product) == (10, 0)


# --- keys and buyers -------------------------------------------------------------------------------------------------


@pytest.mark.row("HC-A1", "HC-A4")
def test_hc_a4_the_same_key_from_twenty_threads_is_one_hold(together):
    """HC-A4: one is granted, nineteen wait (or are collapsed into it) and are given the same."""
    product = ProductFactory()
    results = at_once([partial(take, product, key=KEY)] * 20)
    assert {held.id for held, _replayed in results} == {Reservation.objects.get().pk}
    assert sorted(replayed for _held, replayed in results) == [False] + [True] * 19
    assert {held.expires_at for held, _replayed in results} == {Reservation.objects.get().expires_at}
    assert stock_of(product) == (1, 0)


@pytest.mark.row("HC-A4")
def test_hc_a4_without_the_lock_on_the_key_one_request_takes_stock_many_times(altered_database, one_by_one):
    """HC-A4, the guard off, and a slow database."""
    product = ProductFactory()
    without(LOCK_ON_TURNS, "reservations_reserve", instead=NO_LOCK_ON_TURNS)
    slow("-- 2\n", "reservations_reserve")
    at_once([partial(take, product, key=KEY)] * 20)
    assert Reservation.objects.count() > 1


@pytest.mark.row("HC-A4")
def test_hc_a4_the_lock_on_the_key_holds_however_slow_the_database_is(altered_database, one_by_one):
    """HC-A4, the guard on, in the same slow database."""
    product = ProductFactory()
    slow("-- 2\n", "reservations_reserve", seconds=0.05)
    at_once([partial(take, product, key=KEY)] * 10)
    assert Reservation.objects.count() == 1


@pytest.mark.row("HC-A3", "HC-A4")
def test_hc_a4_one_key_for_two_requests_at_once_is_granted_to_one_of_them(together):
    """HC-A3, HC-A4: whoever comes second is told that the key was used for another request, and takes nothing."""
    event = EventFactory()
    one, other = ProductFactory(event=event), ProductFactory(event=event)
    results = at_once([partial(take, one, key=KEY), partial(take, other, key=KEY)] * 10)
    granted = of_type(results, tuple)
    assert len(granted) == len(of_type(results, holds.KeyReused)) == 10
    assert len({held.id for held, _replayed in granted}) == Reservation.objects.count() == 1
    assert sum(map(sum, (stock_of(one), stock_of(other)))) == 1
    assert ReservationKey.objects.get().reservation_id == granted[0][0].id


@pytest.mark.row("HC-A2", "HC-A4")
def test_hc_a2_the_key_of_an_ended_hold_from_twenty_threads_is_one_new_hold(together):
    """HC-A2, HC-A4: one seat, in the very hold that ended."""
    product = ProductFactory(quotas__capacity=1)
    ended, _replayed = take(product, key=KEY)
    end_time(ended.id)
    results = at_once([partial(take, product, key=KEY)] * 20)
    assert sorted(replayed for _held, replayed in results) == [False] + [True] * 19
    (renewed,) = {held.id for held, _replayed in results}
    assert renewed != ended.id
    assert ReservationKey.objects.get().reservation_id == renewed
    assert Reservation.objects.get(pk=ended.id).status == "EXPIRED"
    assert stock_of(product) == (1, 0)


@pytest.mark.row("HC-A7")
def test_hc_a7_one_browser_in_twenty_tabs_has_one_hold(together):
    """HC-A7: all tabs are shown the same hold, whatever they asked for; stock is taken once."""
    event = EventFactory()
    products = [ProductFactory(event=event) for _ in range(2)]
    results = at_once([partial(take, product, buyer_key="browser") for product in products] * 10)
    assert len({held.id for held, _joined in results}) == Reservation.objects.count() == 1
    assert sorted(joined for _held, joined in results) == [False] + [True] * 19
    assert len({held.lines[0].product_id for held, _joined in results}) == 1
    assert sum(sum(stock_of(product)) for product in products) == 1


@pytest.mark.row("HC-A7")
def test_hc_a7_without_the_lock_on_the_buyer_every_tab_takes_stock(altered_database, one_by_one):
    """HC-A7, the guard off, and a slow database."""
    product = ProductFactory()
    without(LOCK_ON_TURNS, "reservations_reserve", instead=NO_LOCK_ON_TURNS)
    slow("-- 2\n", "reservations_reserve")
    at_once([partial(take, product, buyer_key="browser")] * 10)
    assert Reservation.objects.count() > 1


@pytest.mark.row("HC-A7")
def test_hc_a7_without_taking_turns_inside_a_call_every_tab_takes_stock(monkeypatch):
    """HC-A7, the other guard off: two requests of one browser in one call do not see each other's hold."""
    product = ProductFactory()
    requests = [batching.Request([holds.Wanted(product.pk, None, n)], None, "browser", "") for n in (1, 2)]
    monkeypatch.setattr(batching.Request, "turns", property(lambda _request: set()))
    batching.together(product.event.slug, requests)
    assert Reservation.objects.count() == 2


@pytest.mark.row("HC-A7")
def test_hc_a7_one_browser_may_hold_two_events(together):
    one, other = ProductFactory(), ProductFactory()
    results = at_once([partial(take, product, buyer_key="browser") for product in (one, other)] * 5)
    assert Reservation.objects.count() == 2
    assert sorted(joined for _held, joined in results) == [False] * 2 + [True] * 8


# --- baskets over several quotas -------------------------------------------------------------------------------------


def crossed_baskets(times: int) -> list[object]:
    event = EventFactory()
    products = [ProductFactory(event=event, max_per_order=50, quotas__capacity=1000) for _ in range(4)]
    forth = [holds.Wanted(product.pk, None, 1) for product in products]
    calls = [partial(holds.reserve, event.slug, lines=lines) for lines in (forth, forth[::-1], forth[2:], forth[:2])]

    def many(call) -> int:
        for _ in range(times):
            call()
        return times

    return at_once([partial(many, call) for call in calls * 3])


@pytest.mark.row("H2", "HC-A6")
def test_hc_a6_crossed_baskets_do_not_deadlock(together, monkeypatch):
    """HC-A6: twelve buyers, four quotas in every order; none is a victim, and the counters agree with the claims."""
    _let_deadlocks_show(monkeypatch)
    assert crossed_baskets(times=5) == [5] * 12
    for quota in Quota.objects.all():
        assert counters(quota) == recount(quota)
    assert Reservation.objects.count() == 60


def _let_deadlocks_show(monkeypatch) -> None:
    """A victim is not tried again, so that a deadlock is seen."""
    monkeypatch.setattr(batching, "_call", batching._call.__wrapped__)


def _nearly_full(event, *, over: int) -> tuple[Product, Quota]:
    """A product on two quotas; the second is full but for one unit, and `over` of its units are in holds past their time."""
    roomy, scarce = QuotaFactory(event=event, capacity=1000), QuotaFactory(event=event, capacity=over + 1)
    ended = ProductFactory(event=event, quotas=[scarce], max_per_order=50)
    for _ in range(over):
        end_time(hold(ended).id)
    return ProductFactory(event=event, quotas=[roomy, scarce], max_per_order=50), scarce


@pytest.mark.row("H4", "HC-A6")
@pytest.mark.parametrize("guard", ["on", "off"])
def test_hc_a6_giving_back_and_taking_are_one_set_of_locks(altered_database, one_by_one, monkeypatch, guard):
    """HC-A6: one buyer gives back the later quota and then takes both; another takes both. Without all locks at once,
    in the order of ids, before anything is given back, they wait for each other."""
    _let_deadlocks_show(monkeypatch)
    event = EventFactory()
    product, scarce = _nearly_full(event, over=2)
    if guard == "off":
        without(LOCK_ON_QUOTAS, "reservations_reserve")
    given_back = "'taken back by the next buyer');"
    without(given_back, "reservations_reserve", instead=f"{given_back} PERFORM pg_sleep(0.5);")

    def second() -> Any:
        while not is_asleep():
            time.sleep(0.01)
        return hold(product, 1)

    results = at_once([partial(hold, product, 2), second])
    victims = [
        error for error in of_type(results, OperationalError) if isinstance(error.__cause__, errors.DeadlockDetected)
    ]
    assert len(victims) == (guard == "off")
    if guard == "on":
        assert of_type(results, holds.Hold) == results
        assert counters(scarce) == recount(scarce) == (3, 0)


@pytest.mark.row("H2", "H4", "HC-A6", "HC-A10")
def test_hc_a6_crossed_baskets_that_take_back_ended_holds_do_not_deadlock(together, monkeypatch):
    """HC-A6: baskets over four quotas in every order, each quota clogged by holds that ended; sweepers in between."""
    _let_deadlocks_show(monkeypatch)
    event = EventFactory()
    products = [ProductFactory(event=event, max_per_order=50, quotas__capacity=12) for _ in range(4)]
    forth = [holds.Wanted(product.pk, None, 1) for product in products]
    baskets = (forth, forth[::-1], forth[2:], forth[:2], forth[1:3])

    def shopping(lines: list[holds.Wanted]) -> list[Any]:
        results = []
        for _ in range(10):
            results.append(_result(partial(holds.reserve, event.slug, lines=lines)))
            if isinstance(results[-1], tuple):
                end_time(results[-1][0].id)
        return results

    def sweeping() -> list[Any]:
        return [_result(partial(holds.release_expired, batch=3)) for _ in range(10)]

    results = at_once([*[partial(shopping, lines) for lines in baskets * 2], sweeping, sweeping])
    refused = [error for attempts in results for error in of_type(attempts, Exception)]
    assert {type(error) for error in refused} <= {holds.SoldOut}
    for quota in Quota.objects.all():
        assert counters(quota) == recount(quota)
    holds.release_expired()
    assert set(Quota.objects.values_list("held", flat=True)) == {0}


@pytest.mark.row("HC-A6")
def test_hc_a6_stock_moved_in_crossed_order_without_the_lock_order_deadlocks(altered_database):
    """HC-A6, the guard off: the same moves row by row in the caller's order are a deadlock for PostgreSQL."""
    sql(
        """CREATE OR REPLACE FUNCTION ticketing_move_stock(p_quotas bigint[], p_held int[], p_sold int[]) RETURNS void
        LANGUAGE plpgsql AS $$ BEGIN
            FOR i IN 1 .. cardinality(p_quotas) LOOP
                UPDATE ticketing_quota SET held = held + p_held[i] WHERE id = p_quotas[i];
                PERFORM pg_sleep(0.2);
            END LOOP; END $$"""
    )
    ids = [QuotaFactory(capacity=100).pk for _ in range(2)]
    statement = "SELECT ticketing_move_stock(%s::bigint[], ARRAY[1, 1], ARRAY[0, 0])"
    results = at_once([partial(sql, statement, [order]) for order in (ids, ids[::-1])])
    assert "deadlock detected" in " ".join(str(result) for result in results if result)


@pytest.mark.row("HC-A6")
def test_hc_a6_stock_moved_in_crossed_order_takes_turns():
    """HC-A6: the real function locks in id order, whatever the caller's order."""
    ids = [QuotaFactory(capacity=1000).pk for _ in range(3)]
    statement = "SELECT ticketing_move_stock(%s::bigint[], ARRAY[1, 1, 1], ARRAY[0, 0, 0])"

    def many(order: list[int]) -> None:
        for _ in range(30):
            sql(statement, [order])

    results = at_once([partial(many, order) for order in (ids, ids[::-1], [ids[1], ids[2], ids[0]])] * 2)
    assert results == [None] * 6
    assert set(Quota.objects.values_list("held", flat=True)) == {180}


@pytest.mark.row("H4", "HC-A9")
def test_hc_a9_two_sweepers_release_once():
    """HC-A9: four sweepers over thirty ended holds: each is ended by exactly one of them."""
    product = ProductFactory(quotas__capacity=40)
    hold(product, 5)
    for _ in range(30):
        end_time(hold(product).id)
    released = at_once([partial(holds.release_expired, batch=4)] * 4)
    assert sum(released) == 30
    assert stock_of(product) == recount(product.quotas.get()) == (5, 0)


@pytest.mark.row("HC-A9")
def test_hc_a9_sweepers_that_do_not_look_at_the_status_again_give_back_twice(altered_database):
    """HC-A9, the guards off: no row lock, and the move does not check what it moves from."""
    product = ProductFactory(quotas__capacity=40, max_per_order=20)
    hold(product, 20)
    end_time(hold(product, 10).id)
    without("FOR NO KEY UPDATE SKIP LOCKED", "reservations_release_expired")
    without("AND status = p_from", "reservations_end")
    ids = "SELECT array_agg(id) FROM reservations_reservation WHERE expires_at <= now()"
    call = partial(sql, f"SELECT reservations_end(({ids}), 'ACTIVE', 'EXPIRED', 'test', 'test')")
    at_once([call] * 2)
    assert stock_of(product) != recount(product.quotas.get())


@pytest.mark.row("H4", "HC-A8")
def test_hc_a8_the_end_of_time_races_the_checkout_and_one_of_them_wins(client):
    """HC-A8: the time runs out around the checkout: a paid order with its stock, or an ended hold without."""

    def sweep_for_a_while() -> None:
        for _ in range(15):
            holds.release_expired()

    for milliseconds in range(0, 80, 8):
        product = ProductFactory(free=True)
        held = hold(product)
        end_time(held.id, seconds=-milliseconds / 1000)
        _swept, answer = at_once([sweep_for_a_while, partial(check_out, client, held.id)])
        is_paid = answer.status_code == 201
        assert is_paid or answer.json()["code"] == "ended"
        end_time(held.id)
        holds.release_expired()
        assert Reservation.objects.get(pk=held.id).status == ("CONFIRMED" if is_paid else "EXPIRED")
        assert stock_of(product) == ((0, 1) if is_paid else (0, 0))


@pytest.mark.row("H4", "HC-A8")
def test_hc_a8_a_sweep_that_believes_its_first_look_takes_back_what_was_just_bought(client, altered_database):
    """HC-A8, the guards off: no row lock and no condition on the move: paid, yet expired."""
    sql(
        """CREATE OR REPLACE FUNCTION reservations_release_expired(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
        DECLARE v_ids uuid[];
        BEGIN
            SELECT array_agg(id) INTO v_ids FROM reservations_reservation WHERE status = 'ACTIVE';
            PERFORM pg_sleep(0.5);
            RETURN reservations_end(v_ids, 'ACTIVE', 'EXPIRED', 'sweep', 'time is over');
        END $$"""
    )
    without("AND status = p_from", "reservations_end")
    sql("ALTER TABLE ticketing_quota DROP CONSTRAINT quota_is_never_oversold")
    held = hold(ProductFactory(free=True))
    at_once([partial(holds.release_expired, at_most=1), partial(check_out, client, held.id)])
    assert (order_of(held.id).status, Reservation.objects.get(pk=held.id).status) == ("PAID", "EXPIRED")


def _checkout_across_the_end_of_time(product: Product) -> tuple[holds.Hold, Any]:
    """Somebody checks out in time but commits after it; meanwhile another buyer asks for the same last seat.

    Returns the first buyer's hold and what the other was answered.
    """
    held = hold(product)
    end_time(held.id, seconds=-1)
    is_over, other_is_done = threading.Event(), threading.Event()

    def slow_checkout() -> None:
        with transaction.atomic():
            placement.place(held.id, **BUYER)
            sql("SELECT pg_sleep(greatest(0, extract(epoch FROM %s - clock_timestamp())))", [_end_of(held)])
            is_over.set()
            while not (other_is_done.is_set() or is_asleep()):
                time.sleep(0.01)

    def other() -> Any:
        assert is_over.wait(30)
        try:
            return _result(partial(hold, product))
        finally:
            other_is_done.set()

    _none, answer = at_once([slow_checkout, other])
    return held, answer


def _end_of(held: holds.Hold) -> Any:
    return Reservation.objects.values_list("expires_at", flat=True).get(pk=held.id)


@pytest.mark.row("H4", "H9", "HC-A8")
def test_hc_a8_the_next_buyer_does_not_take_back_what_is_being_checked_out(together):
    """HC-A8: the checkout has the row, so the other buyer goes past it: told sold out, and the order has its seat."""
    product = ProductFactory(quotas__capacity=1)
    held, answer = _checkout_across_the_end_of_time(product)
    assert isinstance(answer, holds.SoldOut)
    assert (Reservation.objects.get(pk=held.id).status, order_of(held.id).status) == ("ORDERED", "AWAITING_PAYMENT")
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H4", "HC-A8")
def test_hc_a8_without_its_guards_the_next_buyer_takes_back_what_was_just_ordered(altered_database, one_by_one):
    """HC-A8, the guards off: the ended hold is neither locked nor looked at again: ordered, yet expired, its seat gone."""
    product = ProductFactory(quotas__capacity=1)
    without(SKIPPING, "reservations_reserve")
    without(STILL_FROM, "reservations_end")
    slow(GIVING_BACK, "reservations_reserve", seconds=0.7)
    held, answer = _checkout_across_the_end_of_time(product)
    assert isinstance(answer, holds.Hold)
    assert (order_of(held.id).status, Reservation.objects.get(pk=held.id).status) == ("AWAITING_PAYMENT", "EXPIRED")


@pytest.mark.row("H4", "HC-A8")
def test_hc_a8_a_checkout_that_waited_for_the_row_looks_at_the_time_again(one_by_one):
    """HC-A8: it waits while the next buyer takes the seat back, and is told that its hold ended."""
    product = ProductFactory(quotas__capacity=1)
    held = hold(product)
    end_time(held.id)
    is_taken_back = threading.Event()

    def other() -> holds.Hold:
        with transaction.atomic():
            taken = hold(product)
            is_taken_back.set()
            while not _waits_for_a_row():
                time.sleep(0.01)
        return taken

    def checkout() -> None:
        assert is_taken_back.wait(30)
        with transaction.atomic():
            placement.place(held.id, **BUYER)

    taken, refused = at_once([other, checkout])
    assert isinstance(taken, holds.Hold)
    assert isinstance(refused, placement.HoldEnded)
    assert not Order.objects.exists()
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H6")
def test_release_races_the_checkout_and_one_of_them_wins(client):
    """H6: DELETE and checkout at once: never a paid order whose stock was given back."""
    outcomes = set()
    for _ in range(12):
        product = ProductFactory(free=True)
        held = hold(product)
        delete = partial(client.delete, f"/api/v1/reservations/{held.id}/")
        released, answer = at_once([delete, partial(check_out, client, held.id)])
        outcomes.add((released.status_code, answer.status_code))
        status = Reservation.objects.get(pk=held.id).status
        assert stock_of(product) == ((0, 1) if status == "CONFIRMED" else (0, 0))
        assert Order.objects.filter(reservation=held.id).count() == (status == "CONFIRMED")
    assert outcomes <= {(204, 409), (409, 201)}


@pytest.mark.row("H5")
def test_a_hold_extended_ten_times_at_once_is_extended_once():
    held = hold(ProductFactory())
    results = at_once([partial(holds.extend, held.id)] * 10)
    assert len(of_type(results, holds.Hold)) == 1
    assert {error.code for error in of_type(results, holds.NotExtendable)} == {"already_extended"}


@pytest.mark.row("H6")
def test_a_hold_released_ten_times_at_once_is_given_back_once():
    product = ProductFactory()
    hold(product, 4)
    held = hold(product, 3)
    assert at_once([partial(holds.release, held.id)] * 10) == [True] * 10
    assert stock_of(product) == (4, 0)


@pytest.mark.row("T3", "HC-C8")
def test_hc_c8_checking_out_a_free_order_ten_times_at_once_is_one_order(client):
    """HC-C8: one order, its tickets and its letter once; one answer is 201, nine are replays."""
    product = ProductFactory(free=True)
    held = hold(product, 2)
    answers = at_once([partial(check_out, client, held.id)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["order"]["code"] for answer in answers}) == 1
    assert Ticket.objects.count() == 2
    assert OutgoingEmail.objects.count() == 1
    assert stock_of(product) == (0, 2)


@pytest.mark.row("T3")
def test_twenty_runs_of_ensure_tickets_issue_exactly_what_is_missing(client):
    """T3: three of five tickets are gone; twenty repairs at once make three."""
    held = hold(ProductFactory(free=True), 5)
    check_out(client, held.id)
    order = order_of(held.id)
    for line in order.lines.all()[:3]:
        ticket, line.ticket = line.ticket, None
        line.save()
        ticket.delete()
    issued = at_once([partial(orders.ensure_tickets, order.pk)] * 20)
    assert sorted(issued) == [0] * 19 + [3]
    assert Ticket.objects.count() == 5
    assert order.lines.filter(ticket=None).count() == 0
    assert OutgoingEmail.objects.count() == 1


@pytest.mark.row("T3")
def test_placing_outside_a_transaction_is_refused_by_the_database():
    """The row lock that placement needs exists only inside its caller's transaction."""
    held = hold(ProductFactory())
    with pytest.raises(Exception, match="transaction"):
        placement.place(held.id, **BUYER)
    assert Reservation.objects.get(pk=held.id).status == "ACTIVE"


# --- promo codes -----------------------------------------------------------------------------------------------------


def _four_products_and_a_code() -> tuple[list[Product], PromoCode]:
    """A code with one use left, on products that share no quota: nothing but the code makes their buyers wait."""
    event = EventFactory()
    products = [ProductFactory(event=event) for _ in range(4)]
    return products, PromoCodeFactory(event=event, last_use=True)


def _all_with(code: PromoCode, products: list[Product]) -> list[Any]:
    return at_once([partial(take, product, promo_code=code.code) for product in products] * 5)


def uses(code: PromoCode) -> tuple[int, int]:
    """(as stored, counted from the reservations)."""
    counting = Reservation.objects.filter(promo_code=code, status__in=["ACTIVE", "ORDERED", "CONFIRMED"])
    return PromoCode.objects.get(pk=code.pk).uses, counting.count()


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_the_last_use_of_a_code_has_one_user(together):
    """HC-K4: twenty buyers, one use: one hold with the discount, nineteen told at once that the code is used up."""
    products, code = _four_products_and_a_code()
    results = _all_with(code, products)
    ((held, _replayed),) = of_type(results, tuple)
    assert held.discount.amount_minor == 250
    assert len(of_type(results, holds.PromoCodeUsedUp)) == 19
    assert uses(code) == (1, 1)
    assert sum(sum(stock_of(product)) for product in products) == 1


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_without_the_lock_and_the_constraint_the_last_use_is_had_many_times(altered_database, one_by_one):
    """HC-K4, the guards off, and a slow database."""
    products, code = _four_products_and_a_code()
    without(LOCK_ON_CODES, "reservations_reserve", instead="NULL;")
    sql("ALTER TABLE reservations_promocode DROP CONSTRAINT promo_code_is_never_overused")
    slow("-- 6\n", "reservations_reserve")
    results = _all_with(code, products)
    assert len(of_type(results, tuple)) > 1
    assert uses(code)[1] > 1


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_the_constraint_alone_still_refuses_a_second_use(altered_database, one_by_one):
    """HC-K4: the lock is gone; the second who counts up meets the constraint, by name."""
    products, code = _four_products_and_a_code()
    without(LOCK_ON_CODES, "reservations_reserve", instead="NULL;")
    slow("-- 6\n", "reservations_reserve")
    results = _all_with(code, products)
    assert len(of_type(results, tuple)) == 1
    refused = of_type(results, IntegrityError)
    assert refused
    assert all("promo_code_is_never_overused" in str(error) for error in refused)
    assert len(refused) + len(of_type(results, holds.PromoCodeUsedUp)) == 19
    assert uses(code) == (1, 1)


@pytest.mark.row("T15", "HC-K4", "HC-A10")
def test_hc_k4_a_use_that_an_ended_hold_keeps_goes_to_one_of_twenty(together):
    """HC-K4: no sweeper; the ended hold is taken back for its use of the code, on another product's quota too."""
    products, code = _four_products_and_a_code()
    ended, _replayed = take(products[0], promo_code=code.code)
    end_time(ended.id)
    results = _all_with(code, products[1:])
    granted = of_type(results, tuple)
    assert len(granted) <= 1
    assert uses(code)[0] == uses(code)[1] <= 1
    if not granted:  # all were told so while somebody gave back
        take(products[1], promo_code=code.code)
    assert uses(code) == (1, 1)
    assert stock_of(products[0]) == (0, 0)


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_one_buyers_only_use_from_twenty_tabs_is_one(together):
    """T15: the limit per buyer while the buyer is a browser: one hold, whatever the tabs ask for."""
    event = EventFactory()
    products = [ProductFactory(event=event) for _ in range(4)]
    code = PromoCodeFactory(event=event, once_each=True)
    results = at_once([partial(take, product, promo_code=code.code, buyer_key="browser") for product in products] * 5)
    assert len({held.id for held, _joined in results}) == 1
    assert uses(code) == (1, 1)


@pytest.mark.row("T15", "HC-K4")
def test_hc_k4_one_address_orders_once_with_a_code_that_is_once_each(together):
    """T15: two holds with the code, from two browsers, are checked out at once by the same person: one order."""
    event = EventFactory()
    product = ProductFactory(event=event)
    code = PromoCodeFactory(event=event, once_each=True)
    for _ in range(5):
        held = [take(product, promo_code=code.code)[0] for _ in range(2)]
        email = f"{held[0].id.hex}@example.org"

        def checkout(reservation_id, email=email) -> Order:
            with transaction.atomic():
                return placement.place(reservation_id, email=email, name="Ada")[0]

        results = at_once([partial(checkout, each.id) for each in held])
        assert len(of_type(results, Order)) == len(of_type(results, holds.PromoCodeUsedUp)) == 1


# --- capacity --------------------------------------------------------------------------------------------------------


def _lower_to(quota: Quota, capacity: int) -> None:
    Quota.objects.filter(pk=quota.pk).update(capacity=capacity)


@pytest.mark.row("H15", "HC-K1")
def test_hc_k1_capacity_is_lowered_under_load_and_never_below_what_is_taken(together):
    """HC-K1: staff lower it again and again while buyers take: each refusal names the constraint; nothing is oversold."""
    product = ProductFactory(quotas__capacity=200)
    quota = product.quotas.get()
    hold(product, 5)  # so that the last of them must be refused, whoever is quicker

    def staff() -> list[Any]:
        return [_result(partial(_lower_to, quota, capacity)) for capacity in range(195, -1, -5)]

    *taken, lowered = at_once([*[lambda: [_result(partial(hold, product)) for _ in range(10)]] * 10, staff])
    assert {type(error) for results in taken for error in of_type(results, Exception)} <= {holds.SoldOut}
    refused = of_type(lowered, Exception)
    assert refused
    assert all(isinstance(error, IntegrityError) and "quota_is_never_oversold" in str(error) for error in refused)
    quota.refresh_from_db()
    assert (quota.held, quota.sold) == recount(quota)
    assert quota.held <= quota.capacity
    assert quotas.lowest_capacity(quota.pk) == quota.held
    _lower_to(quota, quota.held)
    with pytest.raises(holds.SoldOut):
        hold(product)


@pytest.mark.row("H15", "HC-K1")
def test_hc_k1_without_the_constraint_staff_who_looked_first_lower_it_too_far(altered_database, one_by_one):
    """HC-K1, the guard off: look at the lowest value allowed, then set it: a hold comes in between."""
    product = ProductFactory(quotas__capacity=10)
    quota = product.quotas.get()
    sql("ALTER TABLE ticketing_quota DROP CONSTRAINT quota_is_never_oversold")
    lowest = quotas.lowest_capacity(quota.pk)
    hold(product)
    _lower_to(quota, lowest)
    quota.refresh_from_db()
    assert quota.held > quota.capacity


@pytest.mark.row("HC-K2")
def test_hc_k2_capacity_lowered_while_a_hold_converts_honours_the_hold():
    """HC-K2: the seat is counted before and after and at every moment between: to as many as are taken, no further."""
    product = ProductFactory(quotas__capacity=50)
    quota = product.quotas.get()
    placed = []
    for _ in range(10):
        held = hold(product)
        with transaction.atomic():
            placed.append(placement.place(held.id, **BUYER)[0])

    def convert(order: Order) -> None:
        with transaction.atomic():
            orders.confirm(orders.lock(order.pk), by="test", why="paid")

    def staff() -> list[Any]:
        return [_result(partial(_lower_to, quota, capacity)) for capacity in (10, 9, 10, 9, 10, 9)]

    *converted, lowered = at_once([*[partial(convert, order) for order in placed], staff])
    assert converted == [None] * 10
    assert lowered[::2] == [None] * 3
    assert all("quota_is_never_oversold" in str(error) for error in lowered[1::2])
    quota.refresh_from_db()
    assert (quota.capacity, quota.held, quota.sold) == (10, 0, 10)
    assert Ticket.objects.count() == 10


@pytest.mark.row("HC-K2")
def test_hc_k2_a_sale_in_two_steps_would_lose_its_seat_in_between(altered_database, one_by_one):
    """HC-K2, the guard off: held is given back in one commit and sold counted in the next: the capacity goes first."""
    product = ProductFactory(quotas__capacity=1)
    quota = product.quotas.get()
    hold(product)
    quotas.move_stock({quota.pk: quotas.Move(held=-1)})
    _lower_to(quota, 0)
    with pytest.raises(IntegrityError, match="quota_is_never_oversold"):
        quotas.move_stock({quota.pk: quotas.Move(sold=1)})
