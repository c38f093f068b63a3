"""Buyers at the same moment, on real connections; each race is first shown to be lost with its guard off."""

from functools import partial

import pytest

from reservations import holds, orders, placement
from reservations.models import Order, Reservation
from tests.factories import EventFactory, ProductFactory, QuotaFactory
from tests.purchases import BUYER, check_out, counters, end_time, hold, order_of, recount, sql, stock_of
from tests.races import at_once, of_type
from ticketing.models import OutgoingEmail, Quota, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

BUYERS = 50

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


def without(guard: str, function: str, *, instead: str = "") -> None:
    """Takes one guard's text out of a function of this database; the fixture puts the function back."""
    sql(
        f"""DO $do$ DECLARE v_text text := pg_get_functiondef('{function}'::regproc); BEGIN
            IF position($g${guard}$g$ IN v_text) = 0 THEN RAISE 'the guard is not there'; END IF;
            EXECUTE replace(v_text, $g${guard}$g$, $g${instead}$g$); END $do$"""
    )


def claims_of(quota: Quota) -> int:
    return sum(recount(quota))


@pytest.mark.row("H1", "H3", "HC-A5")
def test_hc_a5_last_seat_has_one_buyer():
    """HC-A5: fifty buyers, one seat: one hold, 49 told sold out, no deadlock, nothing else."""
    product = ProductFactory(quotas__capacity=1)
    results = at_once([partial(hold, product)] * BUYERS)
    assert len(of_type(results, holds.Hold)) == 1
    assert len(of_type(results, holds.SoldOut)) == BUYERS - 1
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_without_locks_and_without_the_constraint_the_last_seat_is_sold_many_times(altered_database):
    """HC-A5, the guards off: what the two of them are for."""
    product = ProductFactory(quotas__capacity=1)
    sql(NAIVE_MOVE)
    without(
        "PERFORM FROM ticketing_quota WHERE id = ANY (v_lock) ORDER BY id FOR NO KEY UPDATE;", "reservations_reserve"
    )
    sql("ALTER TABLE ticketing_quota DROP CONSTRAINT quota_is_never_oversold")
    results = at_once([partial(hold, product)] * 10)
    assert len(of_type(results, holds.Hold)) > 1
    assert claims_of(product.quotas.get()) > 1


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_the_constraint_alone_still_refuses_to_oversell(altered_database):
    """HC-A5: the first look lies and the lock is gone; whoever adds to the counter meets the constraint."""
    product = ProductFactory(quotas__capacity=1)
    without(
        "PERFORM FROM ticketing_quota WHERE id = ANY (v_lock) ORDER BY id FOR NO KEY UPDATE;", "reservations_reserve"
    )
    without(
        "IF EXISTS (SELECT FROM unnest(v_quotas, v_wanted) AS w (quota_id, quantity)\n"
        "               JOIN ticketing_quota q ON q.id = w.quota_id WHERE q.capacity - q.held - q.sold < w.quantity) THEN\n"
        "        IF reservations_is_returning(v_event.id, v_quotas) THEN\n"
        "            RETURN jsonb_build_object('result', 'retry');\n"
        "        END IF;\n"
        "        v_found := reservations_sold_out(v_event.id, p_products, p_slots, p_quantities);\n"
        "        IF v_found -> 'lines' = 'null'::jsonb THEN  -- a hold ran out since the look before\n"
        "            RETURN jsonb_build_object('result', 'retry');\n"
        "        END IF;\n"
        "        RETURN v_found;\n"
        "    END IF;",
        "reservations_reserve",
    )
    results = at_once([partial(hold, product)] * 20)
    assert len(of_type(results, holds.Hold)) == 1
    assert stock_of(product) == recount(product.quotas.get()) == (1, 0)


@pytest.mark.row("H3", "HC-A5")
def test_hc_a5_thirty_seats_go_to_exactly_thirty_of_fifty():
    product = ProductFactory(quotas__capacity=30)
    results = at_once([partial(hold, product)] * BUYERS)
    assert len(of_type(results, holds.Hold)) == 30
    assert len(of_type(results, holds.SoldOut)) == 20
    assert stock_of(product) == (30, 0)


@pytest.mark.row("H4", "HC-A5", "HC-A10")
def test_hc_a10_fifty_buyers_share_what_ended_holds_give_back():
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


@pytest.mark.row("HC-A1", "HC-A4")
def test_hc_a4_the_same_key_from_twenty_threads_is_one_hold():
    """HC-A4: one is granted, nineteen wait and are given the same."""
    product = ProductFactory()
    call = partial(holds.reserve, product.event.slug, lines=[holds.Wanted(product.pk, None, 1)], key="k" * 16)
    results = at_once([call] * 20)
    assert {held.id for held, _replayed in results} == {Reservation.objects.get().pk}
    assert sorted(replayed for _held, replayed in results) == [False] + [True] * 19
    assert stock_of(product) == (1, 0)


@pytest.mark.row("HC-A4")
def test_hc_a4_without_the_lock_on_the_key_one_request_takes_stock_many_times(altered_database):
    """HC-A4, the guard off, and a slow database."""
    product = ProductFactory()
    without("PERFORM pg_advisory_xact_lock(hashtextextended('reservation-key:' || p_key, 0));", "reservations_reserve")
    look_up = "SELECT * INTO v_event FROM ticketing_event"
    without(look_up, "reservations_reserve", instead=f"PERFORM pg_sleep(0.3); {look_up}")
    call = partial(holds.reserve, product.event.slug, lines=[holds.Wanted(product.pk, None, 1)], key="k" * 16)
    at_once([call] * 20)
    assert Reservation.objects.count() > 1


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
def test_hc_a6_crossed_baskets_do_not_deadlock():
    """HC-A6: twelve buyers, four quotas in every order; none is a victim, and the counters agree with the claims."""
    assert crossed_baskets(times=5) == [5] * 12
    for quota in Quota.objects.all():
        assert counters(quota) == recount(quota)
    assert Reservation.objects.count() == 60


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
