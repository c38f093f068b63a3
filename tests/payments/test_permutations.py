"""P9: Stripe's events in every order, each up to three times or never, end in the same books.

What Stripe has to tell about a purchase is recorded once. Then our tables are put back to the moment before, the events
are delivered in another order, the office's own sweeps happen in between, and at the end everything must be the same.
`PERMUTATIONS=all` tries every order of up to six events and two hundred of each longer set; the suite, of four and ten.
"""

import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from payments import expiry, inbox, refunds, settlement, webhooks
from payments.models import Payment, Refund, StatusChange, WebhookEvent
from reservations.models import Order, Reservation
from reservations.models import StatusChange as OrderChange
from tests.factories import ProductFactory
from tests.payments.posting import deliver, stored
from tests.purchases import check_out, end_time, hold, order_of, ordered, recount, sql
from ticketing.models import OutgoingEmail, Quota, Ticket

IS_LONG = os.environ.get("PERMUTATIONS") == "all"
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.row("P9", "HC-C10", "HC-C11", "HC-C12"),
    pytest.mark.timeout(3600 if IS_LONG else 180),
]

ALL_UP_TO = math.factorial(6 if IS_LONG else 4)
SAMPLE = 200 if IS_LONG else 10
LEAST = 60 if IS_LONG else 6  # of a set with few orders, each several times, with other repeats and sweeps
PAST = "2020-01-01T00:00:00Z"
SEED = "counterfoil"


@dataclass
class Scenario:
    """`before` brings our books to the moment before Stripe has news; `happens` is what Stripe then has to tell of."""

    before: Callable[[Any, Any], Order]
    happens: Callable[[Any, Any, Order], None]
    ends: dict[str, Any]
    is_over: bool = False  # the time to pay ends, somewhere among the events or after them
    is_fetched: bool = False  # what no sweep looks for: the events that never came are fetched from Stripe's list
    is_debit: bool = False


# --- our books, put back in milliseconds ---


class Snapshot:
    """All rows of our apps, and the sequences, as they are now."""

    def __init__(self) -> None:
        sql("DROP SCHEMA IF EXISTS before CASCADE")
        sql("CREATE SCHEMA before")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT c.relname, string_agg(quote_ident(a.attname), ',' ORDER BY a.attnum) FROM pg_class c"
                " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
                " AND a.attgenerated = '' WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
                " AND c.relname ~ '^(payments|reservations|ticketing)_' GROUP BY c.relname"
            )
            self.tables: list[tuple[str, str]] = cursor.fetchall()
            for table, columns in self.tables:
                cursor.execute(f"CREATE TABLE before.{table} AS SELECT {columns} FROM public.{table}")
            cursor.execute("SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public'")
            self.sequences: list[tuple[str, int]] = cursor.fetchall()
            self.statement = self._statement()

    def _statement(self) -> str:
        parts = [f"DELETE FROM public.{table}" for table, _columns in self.tables]  # foreign keys are checked at commit
        for table, columns in self.tables:
            parts.append(f"INSERT INTO public.{table} ({columns}) SELECT {columns} FROM before.{table}")
        for name, value in self.sequences:
            parts.append(f"SELECT setval('public.{name}', {max(value, 1)}, {str(value > 0).lower()})")
        return ";".join(parts)

    def restore(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(self.statement)


@contextmanager
def snapshot() -> Iterator[Snapshot]:
    taken = Snapshot()
    try:
        yield taken
    finally:
        sql("DROP SCHEMA before CASCADE")


def books() -> dict[str, Any]:
    """What a purchase leaves behind, without times, ways and names."""
    changes = StatusChange.objects.filter(kind="payment", to_status="SUCCEEDED").values_list("object_id", flat=True)
    paid = OrderChange.objects.filter(kind="order", to_status="PAID").values_list("object_id", flat=True)
    return {
        "orders": list(Order.objects.order_by("pk").values_list("status", flat=True)),
        "reservations": sorted(Reservation.objects.values_list("status", flat=True)),
        "payments": sorted(Payment.objects.values_list("status", "amount_received_minor", "refunded_minor")),
        "refunds": sorted(Refund.objects.values_list("reason", "status", "amount_minor")),
        "tickets": Ticket.objects.count(),
        "stock": list(Quota.objects.order_by("pk").values_list("held", "sold")),
        "letters": sorted(OutgoingEmail.objects.values_list("kind", flat=True)),
        "in review": Order.objects.exclude(needs_review="").count(),
        "done twice": [each for each, n in (Counter(changes) + Counter(f"order {pk}" for pk in paid)).items() if n > 1],
        "not finished": WebhookEvent.objects.exclude(status__in=["PROCESSED", "IGNORED"]).count(),
    }


# --- scenarios ---


def in_time(client: Any, sandbox: Any, **more: Any) -> Order:
    return ordered(client, ProductFactory(price_minor=2500, quotas__capacity=2), **more)[0]


def on_stripes_page(client: Any, sandbox: Any) -> Order:
    held = hold(ProductFactory(price_minor=2500, quotas__capacity=2))
    assert check_out(client, held.id, mode="hosted").status_code == 201
    return order_of(held.id)


def released(client: Any, sandbox: Any, *, is_sold_out: bool) -> Order:
    order = in_time(client, sandbox)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="Stripe is away")
    if is_sold_out:
        hold(order.lines.first().product, 2)
    return order


def with_two_intents(client: Any, sandbox: Any) -> Order:
    order = in_time(client, sandbox)
    order.payments.update(status="CANCELLED")
    assert check_out(client, order.reservation_id).status_code == 200
    return order


def pays(*cards: str) -> Callable[[Any, Any, Order], None]:
    """The buyer tries these cards one after the other."""

    def happens(client: Any, sandbox: Any, order: Order) -> None:
        for card in cards:
            sandbox.control.pay(order.payments.get().stripe_payment_intent_id, card)

    return happens


def fails_3_d_secure_and_pays(client: Any, sandbox: Any, order: Order) -> None:
    intent_id = order.payments.get().stripe_payment_intent_id
    sandbox.control.pay(intent_id, "pm_card_authenticationRequired", complete=False)
    sandbox.control.pay(intent_id, "pm_card_authenticationRequired", complete=True)


def runs_out(client: Any, sandbox: Any, order: Order) -> None:
    end_time(order.reservation_id)
    assert expiry.close_due() == 1


def declines_and_runs_out(client: Any, sandbox: Any, order: Order) -> None:
    sandbox.control.pay(order.payments.get().stripe_payment_intent_id, "4000000000009995")
    runs_out(client, sandbox, order)


def gives_up(client: Any, sandbox: Any, order: Order) -> None:
    assert client.post(order.address_of("payments:api-cancel")).json()["order"] == "cancelled"


def pays_on_stripes_page(client: Any, sandbox: Any, order: Order) -> None:
    sandbox.control.pay_session(order.payments.get().stripe_session_id)


def debit(*, succeeded: bool) -> Callable[[Any, Any, Order], None]:
    def happens(client: Any, sandbox: Any, order: Order) -> None:
        payment = order.payments.get()
        if payment.stripe_session_id:
            sandbox.control.pay_session(payment.stripe_session_id, "pm_success_de")
            intent_id = sandbox.control.session(payment.stripe_session_id)["payment_intent"]["id"]
        else:
            intent_id = payment.stripe_payment_intent_id
            sandbox.control.pay(intent_id, "pm_success_de")
        sandbox.control.settle(intent_id, succeeded=succeeded)
        if not succeeded:
            runs_out(client, sandbox, order)

    return happens


def pays_late_and_is_refunded(client: Any, sandbox: Any, order: Order, *, fails: bool = False) -> None:
    payment = order.payments.get()
    sandbox.control.set_balance(sufficient=False)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    expiry.close_left_over()
    refunds.submit_due()
    refund = Refund.objects.get()
    assert refund.status == "SUBMITTED"
    sandbox.control.set_balance(sufficient=True)
    if fails:
        sandbox.control.fail_refund(refund.stripe_refund_id)


def both_succeed(client: Any, sandbox: Any, order: Order) -> None:
    for payment in order.payments.order_by("attempt"):
        sandbox.control.pay(payment.stripe_payment_intent_id)


PAID = {
    "orders": ["PAID"],
    "reservations": ["CONFIRMED"],
    "payments": [("SUCCEEDED", 2500, 0)],
    "refunds": [],
    "tickets": 1,
    "stock": [(0, 1)],
    "letters": ["confirmation"],
    "in review": 0,
    "done twice": [],
    "not finished": 0,
}
CLOSED = PAID | {
    "orders": ["CANCELLED"],
    "reservations": ["EXPIRED"],
    "payments": [("CANCELLED", 0, 0)],
    "tickets": 0,
    "stock": [(0, 0)],
    "letters": ["order_expired"],
}
REFUNDED = CLOSED | {
    "payments": [("SUCCEEDED", 2500, 2500)],
    "refunds": [("LATE", "SUCCEEDED", 2500)],
    "stock": [(2, 0)],
    "letters": ["refund"],
}
SURPLUS = PAID | {
    "payments": [("SUCCEEDED", 2500, 0), ("SUCCEEDED", 2500, 2500)],
    "refunds": [("SURPLUS", "SUCCEEDED", 2500)],
    "letters": ["confirmation", "refund"],
}

SCENARIOS = {
    "success": Scenario(in_time, pays("pm_card_visa"), PAID),
    "decline, then success": Scenario(in_time, pays("4000000000009995", "pm_card_visa"), PAID),
    "3-D Secure, failed and passed": Scenario(in_time, fails_3_d_secure_and_pays, PAID),
    "expiry": Scenario(in_time, runs_out, CLOSED, is_over=True),
    "decline and expiry": Scenario(in_time, declines_and_runs_out, CLOSED, is_over=True),
    "cancelled by the buyer": Scenario(in_time, gives_up, CLOSED, is_over=True),
    "hosted success": Scenario(on_stripes_page, pays_on_stripes_page, PAID),
    "hosted expired": Scenario(on_stripes_page, runs_out, CLOSED, is_over=True),
    "debit success": Scenario(in_time, debit(succeeded=True), PAID, is_debit=True),
    "debit failure": Scenario(in_time, debit(succeeded=False), CLOSED, is_over=True, is_debit=True),
    "hosted debit success": Scenario(on_stripes_page, debit(succeeded=True), PAID, is_debit=True),
    "hosted debit failure": Scenario(
        on_stripes_page,
        debit(succeeded=False),
        CLOSED | {"payments": [("FAILED", 0, 0)]},
        is_over=True,
        is_debit=True,
    ),
    "late with room": Scenario(partial(released, is_sold_out=False), pays("pm_card_visa"), PAID),
    "late without room, refunded": Scenario(
        partial(released, is_sold_out=True),
        pays_late_and_is_refunded,
        REFUNDED | {"reservations": ["ACTIVE", "EXPIRED"]},
    ),
    "surplus payment": Scenario(with_two_intents, both_succeed, SURPLUS, is_fetched=True),
}


# --- the proof ---


def ways(name: str, events: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """Ways in which the events may reach us: every order of those we handle (of many, a sample), the same each time."""
    handled = [event for event in events if event["type"] in webhooks.HANDLERS]
    others = [event for event in events if event["type"] not in webhooks.HANDLERS]
    dice = random.Random(f"{SEED} {name}")
    if math.factorial(len(handled)) <= ALL_UP_TO:
        orders = list(itertools.permutations(handled))
        orders = [order for order, _n in zip(itertools.cycle(orders), range(max(LEAST, len(orders))), strict=False)]
    else:
        orders = [tuple(dice.sample(handled, len(handled))) for _ in range(SAMPLE)]
    for order in orders:
        yield deliveries(dice, order, others)


def deliveries(dice: random.Random, order: Sequence[Any], others: list[Any]) -> list[Any]:
    """Each event up to three times or, now and then, never; repeats come anywhere later, and our own sweeps in between."""
    steps: list[Any] = []
    for event in order:
        if dice.random() < 0.85:
            steps.append(event)
            for _ in range(dice.randrange(3)):
                steps.insert(dice.randrange(steps.index(event), len(steps)) + 1, event)
    acts = [act for act in (poll, webhooks.sweep, expiry.close_due, refunds.submit_due) if dice.random() < 0.25]
    for step in (*others, *acts):
        steps.insert(dice.randint(0, len(steps)), step)
    return steps


def poll() -> None:
    Payment.objects.update(asked_at=None)
    for order_id in Order.objects.values_list("pk", flat=True):
        settlement.sync(order_id, by="poll")


def last_sweeps(scenario: Scenario, order: Order, events: list[dict[str, Any]]) -> None:
    """All waits are over, and the schedule comes round a few times."""
    if scenario.is_over:
        end_time(order.reservation_id)
    for event in events if scenario.is_fetched else []:
        inbox.store(event, source=WebhookEvent.Source.BACKFILL)
    for _ in range(4):
        WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=PAST)
        Payment.objects.update(next_attempt_at=PAST, asked_at=None, created_at=Now() - timedelta(minutes=5))
        Refund.objects.update(next_attempt_at=PAST)
        webhooks.sweep()
        settlement.sweep_unheard_of()
        expiry.close_due()
        expiry.close_left_over()
        refunds.submit_due()
        waits = WebhookEvent.objects.filter(status="RECEIVED") or Refund.objects.filter(status__in=Refund.OWED)
        if not waits and not Payment.objects.filter(status__in=Payment.UNDECIDED):
            return


def in_words(steps: list[Any]) -> str:
    return ", ".join(step["type"] if isinstance(step, dict) else step.__name__ for step in steps)


def told_by(sandbox: Any) -> list[dict[str, Any]]:
    """All that Stripe has to tell, oldest first; what we do not handle too, as to an endpoint that takes everything."""
    return [{k: v for k, v in event.items() if k != "deliveries"} for event in reversed(sandbox.control.events())]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_order_of_the_events_ends_in_the_same_books(client, sandbox, request, name):
    """P9: order, number and absence of events do not matter, nor what our own sweeps did in between."""
    scenario = SCENARIOS[name]
    stripe = request.getfixturevalue("debit_sandbox") if scenario.is_debit else sandbox
    order = scenario.before(client, stripe)
    with snapshot() as before:
        scenario.happens(client, stripe, order)
        events = told_by(stripe)
        refunds_made = len(stripe.control.refunds())
        dice = random.Random(SEED)
        for steps in ways(name, events):
            before.restore()
            runs_out_at = dice.randint(0, len(steps)) if scenario.is_over else None
            for position, step in enumerate(steps):
                if position == runs_out_at:
                    end_time(order.reservation_id)
                    expiry.close_due()
                step() if callable(step) else deliver(client, step)
            last_sweeps(scenario, order, events)
            assert books() == scenario.ends, f"{in_words(steps)}; over after {runs_out_at} steps"
        assert all((quota.held, quota.sold) == recount(quota) for quota in Quota.objects.all())
        most = len(scenario.ends["payments"]) if scenario.is_fetched else refunds_made
        assert len(stripe.control.refunds()) <= most, "no way has made another refund at Stripe"


@pytest.mark.row("HC-D10")
def test_the_events_of_a_refund_that_failed_in_every_order(client, sandbox):
    """P9, HC-D10: told before, after or twice: one failed row, one that succeeded, and staff know."""
    order = released(client, sandbox, is_sold_out=True)
    with snapshot() as before:
        pays_late_and_is_refunded(client, sandbox, order, fails=True)
        events = told_by(sandbox)
        ends = REFUNDED | {
            "reservations": ["ACTIVE", "EXPIRED"],
            "refunds": [("LATE", "FAILED", 2500), ("LATE", "SUCCEEDED", 2500)],
            "in review": 1,
        }
        scenario = Scenario(in_time, pays(), ends, is_fetched=True)
        for steps in ways("a refund that failed", events):
            before.restore()
            for step in steps:
                step() if callable(step) else deliver(client, step)
            last_sweeps(scenario, order, events)
            assert books() == ends, in_words(steps)
        assert sorted(each["status"] for each in sandbox.control.refunds()) == ["failed", "succeeded"]


def test_the_snapshot_puts_everything_back(client, sandbox):
    """Else the proof would prove nothing: after a purchase and a restore, books and sequences are those of before."""
    order = in_time(client, sandbox)
    with snapshot() as before:
        first = books()
        sandbox.control.pay(order.payments.get().stripe_payment_intent_id)
        for event in told_by(sandbox):
            deliver(client, event)
        assert books() == PAID
        number = stored(told_by(sandbox)[0]).pk
        before.restore()
        assert books() == first
        deliver(client, told_by(sandbox)[0])
        assert stored(told_by(sandbox)[0]).pk == number


def test_believing_the_events_themselves_would_depend_on_their_order():
    """The guard off: a state that follows each event as it comes ends as the last one says, so the order would matter."""
    believed = {"payment_intent.payment_failed": "OPEN", "payment_intent.succeeded": "SUCCEEDED"}
    ends = {[believed[event] for event in way][-1] for way in itertools.permutations(believed)}
    assert ends == {"OPEN", "SUCCEEDED"}
