"""What can happen to money, one thing a method: buyers, Stripe and its webhooks, the clock, staff, and the office's sweeps.

Rows are named by their distance from the newest, so that a play can be told again. What does not apply does nothing.
"""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client

from payments import backfill, breaker, expiry, inbox, outage, refunds, settlement, stripe_gateway, webhooks
from payments.models import Payment, Refund, WebhookEvent
from reservations import holds
from reservations.models import Order, Reservation
from reservations.models import StatusChange as OrderChange
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory, QuotaFactory
from tests.payments.mishaps import Death, Failpoints, Fate, Mishap, Swallowed, watched_line
from tests.payments.posting import made_up, post
from tests.purchases import check_out, end_time
from tests.stripe_sandbox.process import Control, ControlError
from ticketing.models import Event, Product

STAFF = "staff:1"
MOMENTS = {
    "payments_payment": ("next_attempt_at", "asked_at", "sent_at", "created_at", "succeeded_at"),
    "payments_refund": ("next_attempt_at", "sent_at", "created_at", "succeeded_at"),
    "payments_webhookevent": ("next_attempt_at", "received_at", "processed_at"),
    "payments_breaker": ("changed_at", "probe_until"),
    "payments_stripecursor": ("read_to", "finished_at"),
    "reservations_reservation": ("expires_at", "kept_at", "ended_at"),
}
EMPTIED = ("payments", "reservations", "ticketing")
REFUSALS = (
    expiry.AlreadyPaid, expiry.CannotTell, expiry.NotStuck, refunds.NotOpen, holds.SoldOut, holds.NotOnSale,
    holds.PromoCodeUsedUp, holds.InvalidPromoCode, *stripe_gateway.NO_WORD,
)  # fmt: skip
ANSWERS = {200, 201, 409, 503}
SWEEPS: dict[str, Callable[[], Any]] = {
    "close_due": expiry.close_due,
    "close_left_over": expiry.close_left_over,
    "unheard_of": settlement.sweep_unheard_of,
    "refunds": refunds.submit_due,
    "events": webhooks.sweep,
    "backfill": lambda: backfill.fetch_missed(everything=True),
    "outage": outage.tend,
    "holds": holds.release_expired,
}


class MoneyOffice:
    """One office with one event of six seats, empty at first."""

    def __init__(self, control: Control) -> None:
        self.control, self.client, self.fate = control, Client(), Fate()
        self.swallowed = Swallowed()
        self.has_changed = True
        self.taken: set[str] = set()
        _empty()
        control.reset()
        control.set_debit_seconds(10**9)
        control.set_refund_seconds(10**9)
        event = EventFactory()
        hall, box = QuotaFactory(event=event, capacity=6), QuotaFactory(event=event, capacity=3)
        self.event = event
        self.products = [
            ProductFactory(event=event, quotas=[hall], price_minor=1999),
            ProductFactory(event=event, quotas=[hall, box], price_minor=10_001),
        ]
        PromoCodeFactory(event=event, code="TEN", max_uses=2)
        PromoCodeFactory(event=event, code="FREE", percent_off=100, max_uses=1)
        logging.getLogger().addHandler(self.swallowed)

    def leave(self) -> None:
        logging.getLogger().removeHandler(self.swallowed)

    def do(self, act: Callable[[], Any], mishap: Mishap | None = None) -> Any:
        """What it comes to; None after a refusal or the process's death."""
        with self.fate.over(mishap, self.meanwhile), contextlib.suppress(Death, *REFUSALS):
            try:
                return act()
            finally:
                self.has_changed = self.has_changed or self.fate.writes > 0
        return None

    def meanwhile(self, what: str) -> None:
        """In the middle of something else, with no transaction open."""
        with contextlib.suppress(*REFUSALS):
            {
                "deliver": lambda: self._deliver(0, 1),
                "pay": lambda: self.pay(0, "pm_card_visa", complete=True),
                "expire": lambda: self._expire(0),
                "other mode": lambda: self._check_out_in("hosted"),
                "again": lambda: self._check_out_in("elements"),
                "sync": lambda: self._visit("sync", 0),
                "cancel": lambda: self._visit("cancel", 0),
                "force": lambda: self._force(0),
                "refunds": refunds.submit_due,
            }[what]()

    # --- buyers

    def hold(self, product: int, quantity: int, code: str, mishap: Mishap | None = None) -> Any:
        wanted = [holds.Wanted(self.products[product].pk, None, quantity)]
        found = self.do(lambda: holds.reserve(self.event.slug, lines=wanted, key=None, promo_code=code), mishap)
        return found[0].id if found else None

    def hold_or_wait(self, product: int, quantity: int, code: str) -> Any:
        """When all is taken, until the holds of others run out."""
        if found := self.hold(product, quantity, code):
            return found
        Reservation.objects.filter(status="ACTIVE").update(expires_at=Now() - timedelta(seconds=1))
        return self.hold(product, quantity, code)

    def check_out(self, which: int, mode: str, mishap: Mishap | None) -> None:
        if rows := list(Reservation.objects.order_by("created_at").values_list("pk", flat=True)):
            self.do(lambda: self._check_out(_pick(rows, which), mode), mishap)

    def _check_out(self, reservation_id: Any, mode: str) -> None:
        answer = check_out(self.client, reservation_id, **({"mode": mode} if mode else {}))
        assert answer.status_code in ANSWERS, answer.content

    def _check_out_in(self, mode: str) -> None:
        if order := self._order(0):
            self._check_out(order.reservation_id, mode)

    def pay(self, which: int, card: str, *, complete: bool | None) -> None:
        """On our page or Stripe's; `which` of all that Stripe still takes money for."""
        sessions = [session for session in self.control.sessions() if session["status"] == "open"]
        intents = [row["id"] for row in self.control.ledger()["payment_intents"] if _can_be_paid(row)]
        theirs = {session["payment_intent"] for session in sessions}
        open_now = [*(i for i in intents if i not in theirs), *(session["id"] for session in sessions)]
        if not open_now:
            return
        at = _pick(sorted(open_now, key=self._created), which)
        self.has_changed = True
        with contextlib.suppress(ControlError):  # a bank's page is open for it already, say
            if at.startswith("cs_"):
                self.control.pay_session(at, card, complete=complete)
            else:
                self.control.pay(at, card, complete=complete)

    def _created(self, stripe_id: str) -> int:
        """Which of our payments it is, oldest first; what we do not know comes last."""
        names = list(Payment.objects.order_by("pk").values_list("stripe_payment_intent_id", "stripe_session_id"))
        return next((n for n, ids in enumerate(names) if stripe_id in ids), len(names))

    def bank_answers(self, which: int, *, yes: bool) -> None:
        """To 3-D Secure, or to a debit under way."""
        waiting = [row for row in self.control.ledger()["payment_intents"] if row["status"] in ASKING]
        if not waiting:
            return
        row = _pick(waiting, which)
        self.has_changed = True
        with contextlib.suppress(ControlError):
            if row["status"] == "processing":
                self.control.settle(row["id"], succeeded=yes)
            else:
                self.control.authenticate(row["id"], complete=yes)

    def visit(self, what: str, which: int, mishap: Mishap | None) -> None:
        self.do(lambda: self._visit(what, which), mishap)

    def _visit(self, what: str, which: int) -> None:
        """The buyer looks at the order, asks Stripe for it, or cancels it."""
        if order := self._order(which):
            address = order.address_of(f"payments:api-{what}")
            answer = self.client.get(address) if what == "status" else self.client.post(address)
            assert answer.status_code in ANSWERS, answer.content

    # --- Stripe

    def deliver(self, which: int, copies: int, mishap: Mishap | None) -> None:
        self.do(lambda: self._deliver(which, copies), mishap)

    def _deliver(self, which: int, copies: int) -> None:
        if told := self.control.events(limit=500):
            self._post(told[which % len(told)], copies)

    def _post(self, told: dict[str, Any], copies: int) -> None:
        event = {name: value for name, value in told.items() if name != "deliveries"}
        for _ in range(copies):
            assert post(self.client, event).status_code == 200
            webhooks.process(WebhookEvent.objects.values_list("pk", flat=True).get(stripe_id=event["id"]))

    def _deliver_the_rest(self) -> None:
        """As Stripe does for days, in no order."""
        known = set(WebhookEvent.objects.values_list("stripe_id", flat=True))
        for event in self.control.events(limit=500):
            if event["id"] not in known:
                self._post(event, 1)

    def tamper(self, which: int, changes: dict[str, Any]) -> None:
        if rows := [row for row in self.control.ledger()["payment_intents"] if _can_be_paid(row)]:
            self.control.modify(_pick(rows, which)["id"], **changes)

    def take_after_all(self, which: int) -> None:
        """What Stripe called canceled was paid, as it never should: the office is told by an event and must not deny it."""
        sessions = {session["payment_intent"] for session in self.control.sessions()}
        rows = [row for row in self.control.ledger()["payment_intents"] if row["status"] == "canceled"]
        if rows := [row for row in rows if row["id"] not in sessions]:
            intent = _pick(rows, which)["id"]
            self.taken.add(intent)
            self.control.modify(intent, status="succeeded")
            event = made_up(id=f"evt_of_{intent}", data={"object": {"id": intent, "object": "payment_intent"}})
            self.do(lambda: self._post(event, 1))

    def session_ends(self, which: int) -> None:
        if found := [session for session in self.control.sessions() if session["status"] == "open"]:
            self.control.expire_session(found[which % len(found)]["id"])

    def refund_moves(self, which: int, to: str) -> None:
        if found := self.control.refunds():
            self.has_changed = True
            with contextlib.suppress(ControlError):
                at = _pick(found, which)["id"]
                self.control.fail_refund(at) if to == "failed" else self.control.finish_refund(at, to)

    # --- the clock

    def pass_time(self, seconds: float) -> None:
        """Everything that was written down lies so much further back. Stripe's clock moves for whole days only: it
        refuses sessions that end too soon by its own.
        """
        with connection.cursor() as cursor:
            for table, names in MOMENTS.items():
                moved = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in names)
                cursor.execute(f"UPDATE {table} SET {moved}")
            if seconds >= breaker.WINDOW.total_seconds():
                cursor.execute("DELETE FROM payments_stripecalls")  # nobody looks so far back
        if seconds >= 86_400:
            self.control.advance(seconds)

    def run_out(self, which: int) -> None:
        open_now = Reservation.objects.filter(status__in=["ACTIVE", "ORDERED"]).order_by("created_at")
        if rows := list(open_now.values_list("pk", flat=True)):
            end_time(_pick(rows, which))

    def _expire(self, which: int) -> None:
        self.run_out(which)
        expiry.close_due()

    def sweep(self, name: str, mishap: Mishap | None = None) -> None:
        self.do(SWEEPS[name], mishap)

    # --- staff

    def staff(self, what: str, which: int, mishap: Mishap | None = None) -> None:
        self.do(lambda: getattr(self, f"_{what}")(which), mishap)

    def _force(self, which: int) -> None:
        waiting = Order.objects.filter(status="AWAITING_PAYMENT").order_by("pk")
        if rows := list(waiting):
            end_time(_pick(rows, which).reservation_id, seconds=700)
            expiry.force_release(_pick(rows, which).pk, by=STAFF, why="a test")

    def _close_sale(self, which: int) -> None:
        Event.objects.update(status=["PUBLISHED", "CANCELLED"][which % 2])

    def _stop_product(self, which: int) -> None:
        Product.objects.filter(pk=self.products[which % 2].pk).update(is_stopped=which % 4 == 1)

    def _hold_seats(self, which: int) -> None:
        """All that are left."""
        while self.hold(which % 2, 1, ""):
            pass

    def _requeue(self, which: int) -> None:
        if rows := list(WebhookEvent.objects.filter(status__in=["PARKED", "DEAD"])):
            inbox.requeue(_pick(rows, which), by=STAFF)

    def _refund_again(self, which: int) -> None:
        if rows := list(Refund.objects.filter(status="FAILED").order_by("pk")):
            refunds.try_again(_pick(rows, which), by=STAFF)

    def _refund_now(self, which: int) -> None:
        if rows := list(Refund.objects.order_by("pk")):
            refunds.submit_now(_pick(rows, which), by=STAFF)

    def _pause(self, which: int) -> None:
        breaker.open(by=STAFF, why="a test")

    def _resume(self, which: int) -> None:
        breaker.close(by=STAFF)

    # ---

    def _order(self, which: int) -> Order | None:
        rows = list(Order.objects.order_by("pk"))
        return _pick(rows, which) if rows else None

    def heal(self, *, webhooks_come: bool) -> None:
        """The bad time is over: Stripe answers, banks decide, time passes, sweeps run. A bounded number of rounds."""
        self.control.clear_faults()
        self.control.set_balance(sufficient=True)
        breaker.close(by=STAFF)
        for row in self.control.ledger()["payment_intents"]:
            if row["status"] == "processing":
                self.control.settle(row["id"], succeeded=len(row["id"]) % 2 == 0)
        for round_ in range(ROUNDS):
            for refund in self.control.refunds():
                if refund["status"] == "pending":
                    self.control.finish_refund(refund["id"])
            if webhooks_come:
                self._deliver_the_rest()
            for name in SWEEPS:
                if name != "backfill" or not webhooks_come:
                    self.sweep(name)
            if round_ > 1 and not self.unfinished():
                return
            self.pass_time(math.ceil(3000 * 1.3**round_))

    def paid_late(self) -> int:
        return OrderChange.objects.filter(kind="order", from_status="CANCELLED", to_status="PAID").count()

    def seen(self) -> Counter[str]:
        """What this play came to, so that plays which try nothing are noticed."""
        found = Counter({"order paid late": self.paid_late()})
        found.update(f"order {status}" for status in Order.objects.values_list("status", flat=True))
        found.update(f"refund {why} {how}" for why, how in Refund.objects.values_list("reason", "status"))
        found.update(f"payment {how} {where}" for how, where in Payment.objects.values_list("status", "mode"))
        found.update(f"settled by {who}" for who in Payment.objects.values_list("settled_by", flat=True) if who)
        found.update(f"event {status}" for status in WebhookEvent.objects.values_list("status", flat=True))
        return found

    def unfinished(self) -> list[str]:
        """What still waits for something."""
        return [
            *(f"{row}: payment {row.status}" for row in Payment.objects.filter(status__in=Payment.UNDECIDED)),
            *(f"{row}: refund {row.status} {row.last_error}" for row in Refund.objects.filter(status__in=Refund.OWED)),
            *(f"{row}: {row.last_error}" for row in WebhookEvent.objects.filter(status__in=["RECEIVED", "DEAD"])),
            *(f"{row}: AWAITING_PAYMENT" for row in Order.objects.filter(status="AWAITING_PAYMENT")),
            *(f"{row.pk}: {row.status}" for row in Reservation.objects.filter(status__in=["ACTIVE", "ORDERED"])),
        ]


ROUNDS = 16
ASKING = ("processing", "requires_action")


def _can_be_paid(row: dict[str, Any]) -> bool:
    return row["status"] in ("requires_payment_method", "requires_confirmation")


def _pick(rows: list[Any], which: int) -> Any:
    """0 is the newest."""
    return rows[-1 - which % len(rows)]


def _empty() -> None:
    """Faster than TRUNCATE for a few rows; the keys between them are looked at when it commits."""
    with transaction.atomic(), connection.cursor() as cursor:
        for name in EMPTIED:
            for model in apps.get_app_config(name).get_models(include_auto_created=True):
                cursor.execute(f'DELETE FROM "{model._meta.db_table}"')


def wire(monkeypatch: Any, settings: Any, office_fate: Fate) -> None:
    """Lets fate see what this process writes and sends."""
    import stripe

    settings.FAILPOINTS = Failpoints(office_fate)
    settings.STRIPE_TRIES = 2
    monkeypatch.setattr(stripe, "RequestsClient", watched_line(office_fate))
    stripe_gateway.calls.client.cache_clear()
