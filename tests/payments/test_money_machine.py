"""A machine that looks for lost cents: buyers, Stripe, webhooks, clock, staff and deaths in any order (RELIABILITY, programme 1).

Hypothesis plays against PostgreSQL and the offline Stripe. After every step the books must be sound; after every play
Stripe is well again, time passes, and everything must come to its end: tickets or the money back, to the cent.
`make money-machine` plays for longer, by chance.
"""

import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from payments.models import Payment, Refund
from tests.ledger import differences, without_an_end
from tests.payments.mishaps import Fate, Mishap
from tests.payments.money_invariants import offending, turned_away
from tests.payments.money_office import SWEEPS, MoneyOffice, wire
from tests.stripe_sandbox.process import Control

pytestmark = pytest.mark.django_db(transaction=True)

# plays, steps and the first play's number: MONEY_MACHINE="400,40" or "400,40,12345"
LONGER = os.environ.get("MONEY_MACHINE", "")
SHRINKS = bool(os.environ.get("MONEY_MACHINE_SHRINK"))  # minutes, but then the play is as short as it can be

OPENING = ["before_stripe", "after_opened", "after_stripe_before_commit"]
SETTLING = ["in_settle_0", "in_settle_1", "in_settle_2", "in_settle_3"]
PLACES_OF = {
    "buy": OPENING,
    "check_out_again": [*OPENING, "after_cancel_before_commit"],
    "pay_twice": [*OPENING, "after_cancel_before_commit"],
    "visit": [*SETTLING, "after_cancel_before_commit"],
    "deliver": [*SETTLING, "webhook_after_retrieve", "before_webhook_commit"],
    "sweep": [*SETTLING, "after_refund_before_commit", "before_refund", "before_webhook_commit"],
    "close_late_ones": [*SETTLING, "after_cancel_before_commit", "after_stripe_before_commit"],
    "staff": ["after_refund_before_commit", "before_refund"],
}
PLACES = sorted({place for places in PLACES_OF.values() for place in places})
MEANWHILE = ["deliver", "pay", "expire", "other mode", "again", "sync", "cancel", "force", "refunds"]
MEANWHILE_OF = {"visit": ["other mode", "pay", "deliver"], "close_late_ones": ["pay", "deliver", "sync", "force"]}
PATHS = [
    ("POST", "/v1/payment_intents"), ("POST", "/v1/payment_intents/*/cancel"), ("GET", "/v1/payment_intents*"),
    ("POST", "/v1/checkout/sessions"), ("POST", "/v1/checkout/sessions/*/expire"), ("GET", "/v1/checkout/sessions*"),
    ("POST", "/v1/refunds"), ("GET", "/v1/refunds*"), ("GET", "/v1/events*"), ("*", "*"),
]  # fmt: skip
FAULTS = [
    "drop_before", "drop_after", "http_500_before", "http_500_after", "http_429", "lock_timeout", "malformed",
    "unknown_status",
]  # fmt: skip
CARDS = [
    ("pm_card_visa", True), ("pm_card_visa", True), ("pm_card_visa", True), ("pm_card_chargeDeclined", None),
    ("pm_card_threeDSecure2Required", True), ("pm_card_threeDSecure2Required", False),
    ("pm_card_threeDSecure2Required", None), ("pm_success_de", None), ("pm_failed_de", None),
    ("pm_card_refundFail", True), ("pm_card_pendingRefund", True),
]  # fmt: skip
MODES = ["", "elements", "hosted"]
MOMENTS = [3, 40, 180, 720, 4200, 4200, 90_000]
RIVALS = ["", "stay", "leave", "event cancelled"]
TAMPERED: list[dict[str, Any]] = [
    {"amount": 2000},
    {"amount": 1},
    {"currency": "usd"},
    {"amount": 99_999, "currency": "chf"},
]
# What the plays by chance must come to, so that they cannot grow idle unnoticed.
EXPECTED = {
    "order PAID", "order CANCELLED", "order paid late", "refund LATE SUCCEEDED", "refund MISMATCH SUCCEEDED",
    "payment SUCCEEDED HOSTED", "payment SUCCEEDED ELEMENTS", "payment CANCELLED ELEMENTS", "settled by webhook",
    "settled by expiry", "settled by sync",
}  # fmt: skip
AT_STRIPE: list[tuple[Any, ...]] = [
    ("well",), ("well",), ("refund", "failed"), ("refund", "failed"), ("refund", "succeeded"), ("refund", "canceled"),
    ("balance", False), ("balance", True), ("session ends",), ("taken after all",), ("taken after all",),
]  # fmt: skip
STAFF = [
    "force", "force", "force", "close_sale", "stop_product", "requeue", "refund_again", "refund_now", "pause", "resume",
    "hold_seats",
]  # fmt: skip

_WHICH = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3])
_MODE = st.sampled_from(MODES)
_LINES = st.tuples(st.integers(0, 1), st.sampled_from([1, 1, 2, 3]))
_CODE = st.sampled_from(["", "", "", "TEN", "TEN", "FREE"])
_DEATH = st.one_of(
    st.builds(Mishap, st.just("failpoint"), st.sampled_from(PLACES)),
    st.builds(Mishap, st.just("write"), st.integers(1, 24)),
    st.builds(Mishap, st.sampled_from(["before", "after"]), st.integers(1, 3)),
)
_RACE = st.builds(Mishap, st.just("meanwhile"), st.integers(1, 3), st.sampled_from(MEANWHILE))
_MISHAP = st.one_of(st.none(), st.none(), st.none(), _DEATH, _RACE)
_CARD = st.sampled_from(CARDS)
_BUYER = st.tuples(_LINES, _CODE, _MODE, st.one_of(st.none(), _CARD))


class MoneyMachine(RuleBasedStateMachine):
    control: Control  # these two are set by the test
    fate: Fate
    seen: Counter[str]
    webhooks_come = True

    def __init__(self) -> None:
        super().__init__()
        self.office = MoneyOffice(self.control)
        self.office.fate = self.fate
        self.fate.sent_without_key.clear()
        self.refunds_known: set[int] = set()
        self.races_known = self.fate.struck.total()

    def teardown(self) -> None:
        """The healing phase, and what must be true after it."""
        self.office.fate.mishap = None
        try:
            self.office.heal(webhooks_come=self.webhooks_come)
            self.office.has_changed = True
            self.nothing_is_wrong()
            assert self.office.unfinished() == []
            assert without_an_end(self.control) == self._left_to_staff()
            assert differences(self.control) == []
            self.seen.update(self.office.seen())
            self.seen["play"] += 1
        finally:
            self.office.leave()

    def _left_to_staff(self) -> list[str]:
        """After three refunds that failed, a person decides; their order says so."""
        gone = Payment.objects.filter(status="SUCCEEDED", refunded_minor=0, refunds__status="FAILED").distinct()
        known = {payment.stripe_payment_intent_id: payment for payment in gone.exclude(order__needs_review="")}
        return [words for words in without_an_end(self.control) if words.split(":")[0] in known]

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not self.office.has_changed:
            return
        self.office.has_changed = False
        assert offending(self.control, taken=self.office.taken) == []
        assert self._turned_away() == []
        assert self.office.swallowed.found == []
        assert self.fate.sent_without_key == []

    def _turned_away(self) -> list[str]:
        """Only of a step that nothing else fell into: it might have freed places after the decision."""
        refunds, races = set(Refund.objects.values_list("pk", flat=True)), self.fate.struck.total()
        new, self.refunds_known = refunds - self.refunds_known, refunds
        is_alone, self.races_known = races == self.races_known, races
        return turned_away(new) if new and is_alone else []

    # --- buyers

    @initialize(come=st.booleans(), buyers=st.lists(_BUYER, min_size=1, max_size=3))
    def the_sale_opens(self, come: bool, buyers: list[Any]) -> None:
        self.webhooks_come = come
        for buyer in buyers:
            self._buy(*buyer, None)

    @rule(buyer=_BUYER, mishap=_MISHAP)
    def buy(self, buyer: Any, mishap: Mishap | None) -> None:
        self._buy(*buyer, mishap)

    def _buy(self, lines: tuple[int, int], code: str, mode: str, card: Any, mishap: Mishap | None) -> None:
        if self.office.hold_or_wait(*lines, code):
            self.office.check_out(0, mode, mishap)
            if card:
                self.office.pay(0, card[0], complete=card[1])

    @rule(which=_WHICH, mode=_MODE, mishap=_MISHAP)
    def check_out_again(self, which: int, mode: str, mishap: Mishap | None) -> None:
        self.office.check_out(which, mode, mishap)

    @rule(which=_WHICH, card=_CARD)
    def pay(self, which: int, card: tuple[str, bool | None]) -> None:
        self.office.pay(which, card[0], complete=card[1])

    @rule(which=_WHICH)
    def pay_well(self, which: int) -> None:
        self.office.pay(which, "pm_card_visa", complete=True)

    @rule(which=_WHICH, yes=st.booleans())
    def bank_answers(self, which: int, yes: bool) -> None:
        self.office.bank_answers(which, yes=yes)

    @rule(what=st.sampled_from(["status", "sync", "sync", "cancel"]), which=_WHICH, mishap=_MISHAP)
    def visit(self, what: str, which: int, mishap: Mishap | None) -> None:
        self.office.visit(what, which, mishap)

    # --- Stripe

    @rule(which=st.sampled_from([0, 0, 1, 2, 3, 5, 8, 13]), copies=st.sampled_from([1, 1, 2]), mishap=_MISHAP)
    def deliver(self, which: int, copies: int, mishap: Mishap | None) -> None:
        self.office.deliver(which, copies, mishap)

    @rule(kind=st.sampled_from(FAULTS), path=st.sampled_from(PATHS), count=st.integers(1, 3), skip=st.integers(0, 1))
    def fault(self, kind: str, path: tuple[str, str], count: int, skip: int) -> None:
        self.control.add_fault(kind, method=path[0], path=path[1], count=count, skip=skip)

    @rule(what=st.sampled_from(AT_STRIPE), which=_WHICH)
    def at_stripe(self, what: tuple[Any, ...], which: int) -> None:
        match what:
            case ("well",):
                self.control.clear_faults()
            case "refund", to:
                self.office.refund_moves(which, to)
            case "balance", is_enough:
                self.control.set_balance(sufficient=is_enough)
            case ("session ends",):
                self.office.session_ends(which)
            case ("taken after all",):
                self.office.take_after_all(which)

    # --- the clock, the sweeps, staff

    @rule(seconds=st.sampled_from(MOMENTS))
    def pass_time(self, seconds: float) -> None:
        self.office.pass_time(seconds)

    @rule(which=_WHICH)
    def run_out(self, which: int) -> None:
        self.office.run_out(which)

    @rule(name=st.sampled_from(sorted(SWEEPS)), mishap=_MISHAP)
    def sweep(self, name: str, mishap: Mishap | None) -> None:
        self.office.sweep(name, mishap)

    @rule(which=_WHICH, mishap=_MISHAP)
    def close_late_ones(self, which: int, mishap: Mishap | None) -> None:
        self.office.run_out(which)
        self.office.sweep("close_due", mishap)

    @rule(which=_WHICH, rivals=st.sampled_from(RIVALS), card=_CARD)
    def pay_a_released_one(self, which: int, rivals: str, card: tuple[str, bool | None]) -> None:
        """Staff give the seats back; others take them, and perhaps leave again; and then it is paid after all."""
        if which == 0:
            self._buy((0, 1), "" if rivals else "TEN", "elements", None, None)
        self.office.staff("force", which)
        match rivals:
            case "stay":
                self.office.staff("hold_seats", which)
            case "leave":
                self.office.staff("hold_seats", which)
                self.office.run_out(0)
                self.office.run_out(1)
            case "event cancelled":
                self.office.staff("close_sale", 1)
        before = self.office.paid_late()
        self.office.pay(0, card[0], complete=card[1])
        if rivals != "stay":
            self.office.visit("sync", 0, None)
        if rivals == "event cancelled":
            assert self.office.paid_late() == before, "HC-D9: tickets for a cancelled event"
            self.office.staff("close_sale", 0)

    @rule(mishap=_MISHAP)
    def pay_twice(self, mishap: Mishap | None) -> None:
        """On our page, whose payment is ended for it, and on Stripe's; and then the first was taken after all."""
        self._buy((0, 1), "", "elements", None, None)
        self.office.check_out(0, "hosted", mishap)
        self.office.pay(0, "pm_card_visa", complete=True)
        self.office.take_after_all(0)

    @rule(which=_WHICH, changes=st.sampled_from(TAMPERED))
    def pay_another_sum(self, which: int, changes: dict[str, Any]) -> None:
        self._buy((0, 1), "", "elements", None, None)
        self.office.tamper(which, changes)
        self.office.pay(which, "pm_card_visa", complete=True)

    @rule(what=st.sampled_from(STAFF), which=_WHICH, mishap=_MISHAP)
    def staff(self, what: str, which: int, mishap: Mishap | None) -> None:
        self.office.staff(what, which, mishap)


@pytest.fixture
def machine(debit_sandbox, settings, monkeypatch) -> type[MoneyMachine]:
    fate = Fate()
    wire(monkeypatch, settings, fate)
    return type("Machine", (MoneyMachine,), {"control": debit_sandbox.control, "fate": fate, "seen": Counter()})


def play(machine: type[MoneyMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def _something(chance: random.Random) -> tuple[str, tuple[Any, ...]]:
    """A rule and what it is given: mostly buyers and what becomes of their payments, and often something in its middle."""
    name = chance.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
    which, card = min(int(chance.expovariate(0.9)), 6), chance.choice(CARDS)
    given = {
        "buy": (_buyer(chance),),
        "check_out_again": (which, chance.choice(MODES)),
        "pay": (which, card),
        "bank_answers": (which, chance.random() < 0.6),
        "visit": (chance.choice(["status", "sync", "sync", "cancel", "cancel", "cancel"]), which),
        "deliver": (which * 2, chance.choice([1, 1, 2])),
        "fault": (chance.choice(FAULTS), chance.choice(PATHS), chance.choice([1, 1, 2, 3]), chance.randrange(2)),
        "at_stripe": (chance.choice(AT_STRIPE), which),
        "pass_time": (chance.choice(MOMENTS),),
        "sweep": (chance.choice(sorted(SWEEPS)),),
        "close_late_ones": (which,),
        "pay_a_released_one": (which, chance.choice(RIVALS), card),
        "pay_twice": (),
        "pay_another_sum": (which, chance.choice(TAMPERED)),
        "staff": (chance.choice(STAFF), which),
    }[name]
    return name, (*given, _mishap(chance, name)) if name in PLACES_OF else given


WEIGHTS = {
    "buy": 22, "check_out_again": 8, "pay": 12, "bank_answers": 5, "visit": 8, "deliver": 22, "fault": 7, "at_stripe": 6,
    "pass_time": 5, "sweep": 14, "close_late_ones": 8, "pay_a_released_one": 12, "pay_another_sum": 4, "pay_twice": 4, "staff": 8,
}  # fmt: skip


def _buyer(chance: random.Random) -> tuple[Any, ...]:
    lines = (chance.randrange(2), chance.choice([1, 1, 2]))
    return lines, chance.choice(["", "", "TEN", "FREE"]), chance.choice(MODES), chance.choice([*[None] * 6, *CARDS])


def _mishap(chance: random.Random, name: str) -> Mishap | None:
    match chance.choices(["none", "failpoint", "write", "edge", "meanwhile"], weights=[5, 2, 3, 1, 4])[0]:
        case "failpoint":
            return Mishap("failpoint", chance.choice(PLACES_OF[name]))
        case "write":
            return Mishap("write", chance.randint(1, 16))
        case "edge":
            return Mishap(chance.choice(["before", "after"]), chance.randint(1, 2))
        case "meanwhile":
            return Mishap("meanwhile", chance.choice([1, 1, 2]), chance.choice(MEANWHILE_OF.get(name, MEANWHILE)))
    return None


def run_by_chance(machine: type[MoneyMachine], number: int, *, steps: int) -> None:
    """One play of so many steps, told as it goes: pytest shows it when it fails."""
    chance, one = random.Random(number), machine()
    print(f"play {number}")
    try:
        one.the_sale_opens(chance.random() < 0.5, [])
        for step in range(steps):
            name, given = _something(chance)
            print(f"  {step}: {name}{given}")
            getattr(one, name)(*given)
            one.nothing_is_wrong()
    except BaseException:
        one.office.leave()
        raise
    one.teardown()


ROWS = ("P1", "P5", "P6", "P9", "P10", "I1", "HC-D1", "HC-D2", "HC-E4", "HC-B2", "HC-B10", "HC-C12")


@pytest.mark.row(*ROWS)
@pytest.mark.timeout(600)
def test_no_order_of_events_loses_a_cent(machine):
    """I1 to I9 after every step, W1 after every play; Hypothesis looks for the shortest way to lose one."""
    play(machine, examples=8, steps=15)
    assert machine.seen["play"] >= 8


@pytest.mark.row(*ROWS)
@pytest.mark.timeout(900)
def test_long_days_lose_no_cent(machine):
    """The same by chance, for more steps in a row; the number says which play. All that can end a payment is seen."""
    for number in range(20):
        run_by_chance(machine, number, steps=30)
    assert {name for name, times in (machine.seen + machine.fate.struck).items() if times} >= EXPECTED


if LONGER:  # for as long as one likes: make money-machine

    @pytest.mark.timeout(0)
    def test_very_long_days_lose_no_cent(machine):
        """MONEY_MACHINE="plays,steps", or "plays,steps,first" to play them again."""
        plays, steps, *given = (int(part) for part in LONGER.split(","))
        first = given[0] if given else random.randrange(2**24)
        for number in range(first, first + plays):
            run_by_chance(machine, number, steps=steps)
        print(dict(sorted(machine.seen.items())), dict(sorted(machine.fate.struck.items())))
