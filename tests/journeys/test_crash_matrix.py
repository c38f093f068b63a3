"""SIGKILL at every failpoint in every flow that passes it; afterwards the sweeps alone bring everything in order.

Each cell runs one step of the product in a process of its own that kills itself at the place, on the database and the
offline Stripe of the test. That the matrix is whole is itself shown: which places a flow passes is recorded, not guessed.
`make hard-cases` prints the table. test_office_crashes.py has a few cells with the office's own processes.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings as django_settings
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from config.failpoints import FailpointReached
from monitoring import fallback
from payments import backfill, expiry, refunds, webhooks
from payments.models import Payment, Refund, WebhookEvent
from reservations.models import Order, Reservation
from tests import hard_cases
from tests.factories import ProductFactory
from tests.journeys.letters import letters_to
from tests.payments.posting import post, stored
from tests.payments.test_hard_cases_f import lose_everything
from tests.purchases import BUYER, check_out, end_time, hold, ordered, recount
from ticketing.models import OutgoingEmail, Quota, Ticket

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("config", "ticketing", "reservations", "payments", "monitoring")

_NAMES = """
import uuid
from payments import checkout, expiry, refunds, settlement, webhooks
from ticketing import emails
"""
# Set up once, with no connection open; each step runs in a fork of its own.
_NURSERY = """
import json, os, sys, traceback, django
django.setup()
from django.conf import settings
{names}
for line in sys.stdin:
    told = json.loads(line)
    child = os.fork()
    if not child:
        try:
            settings.FAILPOINTS = told["failpoints"]
            settings.EMAIL_FILE_PATH = told["mailbox"]
            exec(told["step"])
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class World:
    client: object
    sandbox: object
    nursery: subprocess.Popen
    mailbox: str


@dataclass(frozen=True)
class Flow:
    """`prepare` brings the world to just before the step and gives the step's source; `follow`: what the buyer does then."""

    prepare: Callable[[World], str]
    places: tuple[str, ...]
    follow: Callable[[World], None] = lambda world: None
    ends: tuple[str, int] = ("PAID", 2)  # the order's state and its tickets


IN_SETTLE = ("in_settle_0", "in_settle_1", "in_settle_2", "in_settle_3")
BY_WEBHOOK = ("webhook_after_retrieve", *IN_SETTLE, "before_webhook_commit")
MONEY_BACK = ("webhook_after_retrieve", "in_settle_0", "before_webhook_commit")
OPENING = ("before_stripe", "after_stripe_before_commit", "after_opened")


def _hold_for(mode: str, *, is_free: bool = False) -> Callable[[World], str]:
    def prepare(world: World) -> str:
        held = hold(ProductFactory(free=is_free, quotas__capacity=2), 2)
        return f"checkout.start(uuid.UUID('{held.id}'), email='{BUYER['email']}', name='Ada', mode={mode!r})"

    return prepare


def _comes_back(world: World) -> None:
    """The buyer loads the page again, and pays."""
    assert check_out(world.client, Reservation.objects.get().pk).status_code in (200, 201)
    _pay(world, Payment.objects.get())


def _comes_back_to_stripes_page(world: World) -> None:
    assert check_out(world.client, Reservation.objects.get().pk, mode="hosted").status_code in (200, 201)
    _pay(world, Payment.objects.get())


def _is_gone(world: World) -> None:
    end_time(Reservation.objects.get().pk)


def _pay(world: World, payment: Payment) -> None:
    if payment.stripe_session_id:
        world.sandbox.control.pay_session(payment.stripe_session_id)
    else:
        world.sandbox.control.pay(payment.stripe_payment_intent_id)


def _ordered(world: World, **details) -> tuple[Order, Payment]:
    return ordered(world.client, ProductFactory(quotas__capacity=2), 2, **details)


def _told(world: World, event_type: str) -> str:
    """The newest event of the type is posted; the step processes it."""
    event = {k: v for k, v in world.sandbox.control.events(event_type=event_type)[0].items() if k != "deliveries"}
    assert post(world.client, event).status_code == 200
    return f"webhooks.process({stored(event).pk})"


def _paid(world: World) -> str:
    _pay(world, _ordered(world)[1])
    return _told(world, "payment_intent.succeeded")


def _paid_on_stripes_page(world: World) -> str:
    _pay(world, _ordered(world, mode="hosted")[1])
    return _told(world, "checkout.session.completed")


def _paid_and_asked(world: World) -> str:
    order, payment = _ordered(world)
    _pay(world, payment)
    return f"settlement.sync({order.pk}, by='sync')"


def _paid_late(world: World) -> str:
    order, payment = _ordered(world)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    _pay(world, payment)
    return _told(world, "payment_intent.succeeded")


def _paid_late_and_sold_out(world: World) -> str:
    step = _paid_late(world)
    hold(Quota.objects.get().products.get())
    return step


def _paid_wrongly(world: World) -> str:
    _order, payment = _ordered(world)
    _pay(world, payment)
    world.sandbox.control.modify(payment.stripe_payment_intent_id, amount=7)
    return _told(world, "payment_intent.succeeded")


def _paid_and_lost(world: World) -> str:
    _pay(world, _ordered(world, mode="hosted")[1])
    lose_everything()
    step = _told(world, "checkout.session.completed")
    WebhookEvent.objects.update(received_at=F("received_at") - timedelta(hours=1))
    return step


def _over(world: World, **details) -> str:
    order, _payment = _ordered(world, **details)
    end_time(order.reservation_id)
    return "expiry.close_due()"


def _over_on_stripes_page(world: World) -> str:
    return _over(world, mode="hosted")


def _over_before_stripe_knew(world: World) -> str:
    held = hold(ProductFactory(quotas__capacity=2), 2)
    django_settings.FAILPOINTS = {"before_stripe": "raise"}
    with pytest.raises(FailpointReached):
        check_out(world.client, held.id)
    django_settings.FAILPOINTS = {}
    end_time(held.id)
    return "expiry.close_due()"


def _owed(world: World) -> str:
    step = _paid_late_and_sold_out(world)
    webhooks.process(int(re.search(r"\d+", step).group()))
    return "refunds.submit_due()"


def _refunded_slowly(world: World) -> str:
    world.sandbox.control.set_balance(sufficient=False)
    _owed(world)
    refunds.submit_due()
    world.sandbox.control.finish_refund(Refund.objects.get().stripe_refund_id)
    return _told(world, "refund.updated")


def _written_to(world: World) -> str:
    check_out(world.client, hold(ProductFactory(free=True, quotas__capacity=2), 2).id)
    return "emails.send_due()"


CLOSED, REFUNDED = ("CANCELLED", 0), ("CANCELLED", 0)
FLOWS = {
    "checkout": Flow(_hold_for("ELEMENTS"), OPENING, _comes_back),
    "checkout, its buyer gone": Flow(_hold_for("ELEMENTS"), OPENING, _is_gone, CLOSED),
    "checkout on Stripe's page": Flow(_hold_for("HOSTED"), OPENING, _comes_back_to_stripes_page),
    "free checkout": Flow(
        _hold_for("ELEMENTS", is_free=True),
        IN_SETTLE[1:],
        lambda world: check_out(world.client, Reservation.objects.get().pk),
    ),
    "settling by webhook": Flow(_paid, BY_WEBHOOK),
    "settling Stripe's page by webhook": Flow(_paid_on_stripes_page, BY_WEBHOOK),
    "settling by asking": Flow(_paid_and_asked, IN_SETTLE),
    "late money, room left": Flow(_paid_late, BY_WEBHOOK),
    "late money, sold out": Flow(_paid_late_and_sold_out, BY_WEBHOOK, ends=REFUNDED),
    "a wrong amount": Flow(_paid_wrongly, MONEY_BACK, ends=REFUNDED),
    "an order that was lost": Flow(_paid_and_lost, BY_WEBHOOK),
    "end of time": Flow(_over, ("after_cancel_before_commit",), ends=CLOSED),
    "end of time on Stripe's page": Flow(_over_on_stripes_page, ("after_cancel_before_commit",), ends=CLOSED),
    "end of time before Stripe knew": Flow(
        _over_before_stripe_knew, ("after_stripe_before_commit", "after_cancel_before_commit"), ends=CLOSED
    ),
    "sending a refund": Flow(_owed, ("before_refund", "after_refund_before_commit"), ends=REFUNDED),
    "hearing of a refund": Flow(_refunded_slowly, ("before_webhook_commit",), ends=REFUNDED),
    "sending a letter": Flow(_written_to, ("before_email", "after_email_before_mark")),
}
CELLS = [(name, place) for name, flow in FLOWS.items() for place in flow.places]


def _few() -> list[tuple[str, str]]:
    """Each place once and each flow at least once, the least tried first; CRASH_MATRIX=all and `make hard-cases` try all."""
    few: list[tuple[str, str]] = []
    for place in dict.fromkeys(place for _flow, place in CELLS):
        flows = [flow for flow, each in CELLS if each == place]
        few.append((min(flows, key=lambda flow: sum(flow == tried for tried, _place in few)), place))
    tried = {flow for flow, _place in few}
    return few + [next(cell for cell in CELLS if cell[0] == flow) for flow in FLOWS if flow not in tried]


TRIED = CELLS if os.environ.get("CRASH_MATRIX") == "all" else _few()


@pytest.fixture(scope="module")
def nursery(django_db_setup, _sandbox_process) -> Iterator[subprocess.Popen]:
    server, _slash, _name = os.environ["DATABASE_URL"].rpartition("/")
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
        "DEBUG": "on",
        "STRIPE_API_BASE": _sandbox_process.api_base,
        "STRIPE_SECRET_KEY": _sandbox_process.secret_key,
    }
    argv = [sys.executable, "-c", _NURSERY.format(names=_NAMES)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
    yield process
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def world(client, sandbox, settings, tmp_path, nursery) -> Iterator[World]:
    current_app.loader.import_default_modules()  # the sweeps, as in a worker
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mailbox")
    sandbox.control.set_balance(sufficient=True)
    yield World(client, sandbox, nursery, settings.EMAIL_FILE_PATH)
    sandbox.control.set_balance(sufficient=True)


def killed_in(step: str, place: str, world: World) -> int:
    """Runs the step in a process that kills itself at the place; its exit code."""
    told = {"step": step, "failpoints": {place: "kill"}, "mailbox": world.mailbox}
    world.nursery.stdin.write(json.dumps(told) + "\n")
    world.nursery.stdin.flush()
    return int(world.nursery.stdout.readline())


def heal(world: World) -> None:
    """What beat and a worker do in the hours after: Stripe's list of events read, every sweep run, all that waits due."""
    for _ in range(4):
        backfill.fetch_missed(everything=True)
        WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=Now())
        Payment.objects.update(next_attempt_at=Now(), created_at=Now() - timedelta(minutes=5), asked_at=None)
        Refund.objects.update(next_attempt_at=Now())
        OutgoingEmail.objects.filter(status="PENDING").update(next_attempt_at=Now())
        fallback.run_sweeps()


def assert_in_order(world: World, *, ends: tuple[str, int]) -> None:
    """Safety and liveness: money by Stripe's ledger, stock by a recount, nothing waiting, nothing twice."""
    order = Order.objects.get()
    assert (order.status, Ticket.objects.count()) == ends
    ledger = world.sandbox.control.ledger()["payment_intents"]
    assert sum(line["status"] not in ("succeeded", "canceled") for line in ledger) == 0, (
        "nothing can be charged any more"
    )
    paid = [line for line in ledger if line["charges_succeeded"]]
    assert all(line["charges_succeeded"] == 1 for line in paid)
    assert len(paid) <= 1, "charged once"
    for line in paid:
        payment = Payment.objects.get(stripe_payment_intent_id=line["id"])
        kept = line["amount_received"] - line["amount_refunded"]
        assert (payment.status, kept) == ("SUCCEEDED", order.total_minor if ends[0] == "PAID" else 0)
    for quota in Quota.objects.all():
        assert (quota.held, quota.sold) == recount(quota)
    assert not Payment.objects.filter(status__in=Payment.UNDECIDED).exists()
    assert not Refund.objects.filter(status__in=Refund.OWED).exists()
    assert not WebhookEvent.objects.filter(status__in=["RECEIVED", "PARKED", "DEAD"]).exists()
    assert {row.status for row in OutgoingEmail.objects.all()} <= {"SENT"}
    kinds = Counter(OutgoingEmail.objects.values_list("kind", flat=True))
    assert set(kinds.values()) <= {1}
    assert ("confirmation" in kinds) is (ends[0] == "PAID")


def letters(mailbox: str) -> list[str]:
    return [str(letter["Message-ID"]) for letter in letters_to(Path(mailbox), BUYER["email"])]


@pytest.mark.row("HC-B1", "HC-B2", "HC-D11", "HC-E4", "HC-E5", "P5", "P6")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("flow", "place"), TRIED)
def test_hc_e4_killed_anywhere_the_sweeps_bring_it_in_order(world, flow, place, record_property):
    """HC-E4, HC-E5, HC-B1, HC-B2, HC-D11: each success ends as tickets or a refund, one charge, one letter, nothing stuck."""
    record_property(hard_cases.CELL, f"{place} while {flow}")
    step = FLOWS[flow].prepare(world)
    assert killed_in(step, place, world) == -signal.SIGKILL
    FLOWS[flow].follow(world)
    heal(world)
    assert_in_order(world, ends=FLOWS[flow].ends)
    copies = letters(world.mailbox)
    is_doubtful = place == "after_email_before_mark"  # the provider has it, we do not know: a marked copy (HC-E6)
    assert len(copies) == OutgoingEmail.objects.count() + is_doubtful
    assert len(set(copies)) == OutgoingEmail.objects.count()


class _Recorder(dict):
    """In the place of settings.FAILPOINTS: asks nothing to fail, and remembers who asked."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()

    def get(self, name: str, default=None):
        self.passed.add(name)
        return default


@pytest.mark.row("HC-E4", "P6")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("flow", FLOWS)
def test_the_matrix_has_every_place_that_a_flow_passes(world, flow, settings):
    step = FLOWS[flow].prepare(world)
    settings.FAILPOINTS = recorder = _Recorder()
    known: dict[str, object] = {}
    exec(_NAMES + step, known)
    settings.FAILPOINTS = {}
    assert recorder.passed == set(FLOWS[flow].places)


@pytest.mark.row("HC-E4", "P6")
def test_the_matrix_has_every_failpoint_there_is():
    files = [path for app in PRODUCT for path in (ROOT / app).rglob("*.py")]
    named = {name for path in files for name in re.findall(r'failpoint\("(\w+)"\)', path.read_text(encoding="utf-8"))}
    assert named == {place for _flow, place in CELLS}
