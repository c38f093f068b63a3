"""PF8 and PF9: whole purchases, and what Stripe tells us about them. Web, worker, beat and the offline Stripe all run."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.bench import load, memory, wire
from deploy.bench.buyers import LOOK_AGAIN_SECONDS, WISH, Bought, Wish
from deploy.bench.catalogue import new_sale
from deploy.bench.jobs import Kind
from deploy.bench.load import Outcome
from deploy.bench.office import Office
from deploy.bench.report import Row, judged
from deploy.bench.stack import call, get
from deploy.bench.targets import GOALS, Verdict
from payments.models import WebhookEvent

WEBHOOKS = "/webhooks/stripe/"
ALONE_SECONDS = 2.0
DRAINED_AT_LATEST_SECONDS = 300.0
CONTROL_SECONDS = 120.0  # tens of thousands of events are one long answer


@dataclass
class Shop:
    """The office with everything that a purchase needs."""

    office: Office
    pids: dict[str, int]

    def tell(self, url: str | None) -> None:
        """Where the offline Stripe sends its events; None: nowhere."""
        secret = self.office.stack.plan.secrets.stripe_webhook_secret
        self._control("PUT", "webhooks/endpoints/we_default", {"url": url, "secrets": [secret]})

    def reset_stripe(self) -> None:
        """Its books outlive it, as the demo's do; the shop's were just emptied, so these must be too."""
        self._control("POST", "reset")

    def events(self) -> list[dict[str, Any]]:
        """Everything that happened at the offline Stripe, oldest first, as it would be sent."""
        found = self._control("GET", f"events?limit={sys.maxsize}")["data"]
        return [{name: value for name, value in event.items() if name != "deliveries"} for event in reversed(found)]

    def calls(self) -> int:
        """How often its API was called since it was asked to forget."""
        return len(self._control("GET", "requests")["data"])

    def cpu_seconds(self) -> dict[str, float]:
        """What each part has had of the cores so far; only Linux tells."""
        if sys.platform != "linux":
            return {}
        return {name: memory.cpu_seconds(pid) for name, pid in self.pids.items()}

    def forget_calls(self) -> None:
        self._control("DELETE", "requests")

    def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = json.dumps(body or {}).encode() if method != "GET" else None
        port = self.office.stack.plan.ports["stripe"]
        status, _, said = call(port, method, f"/_control/{path}", body=content, timeout=CONTROL_SECONDS)
        if status != 200:
            raise RuntimeError(f"the offline Stripe's control answers {status}")
        return json.loads(said)

    def buy(self, **wish: Any) -> Bought:
        """In a process of its own, as buyers are none of the office's."""
        sale, stack = new_sale(), self.office.stack
        asked = Wish(
            shop_port=self.office.product.port,
            stripe_port=stack.plan.ports["stripe"],
            event=sale.slug,
            product=sale.product,
            secret_key=stack.plan.secrets.stripe_secret_key,
            publishable_key=stack.plan.secrets.stripe_publishable_key,
            database_url=stack.plan.database_url,
            **{"buyers": self.office.size.buyers, **wish},
        )
        command = [sys.executable, "-m", "deploy.bench.buyers"]
        environment = {**stack.plan.common_env(), WISH: asked.dumps()}
        child, log = stack.spawn(f"buyers-{sale.slug}", command, environment)
        child.popen.wait()
        stack.stop(child)
        lines = log.read_text().splitlines()
        if child.popen.returncode != 0 or not lines:
            raise RuntimeError(f"the buyers' process failed: {lines[-1] if lines else 'no word'}")
        return Bought.loads(lines[-1])


@contextmanager
def _open_shop(office: Office) -> Iterator[Shop]:
    """Worker, beat and the offline Stripe for as long as the block lasts."""
    office.fresh_start()
    children = [office.stack.start_stripe(), *office.stack.start_worker_and_beat()]
    pids = {"web": office.product.child.pid, "PostgreSQL": office.stack.postgres.pid, "Valkey": office.stack.redis.pid}
    pids |= {name: child.pid for name, child in zip(("offline Stripe", "worker", "beat"), children, strict=True)}
    try:
        shop = Shop(office, pids)
        shop.reset_stripe()
        shop.tell(f"http://{office.product.host}{WEBHOOKS}")
        first = shop.buy(purchases=2 * office.size.buyers)  # proves that all parts work together, and warms them up
        if first.wrong:
            raise RuntimeError(f"the first buyers got no tickets: {_said(first)}")
        yield shop
    finally:
        for child in reversed(children):
            office.stack.stop(child)


def _said(bought: Bought) -> str:
    return "; ".join(f"{count} × {what}" for what, count in bought.wrong.most_common(3))


# --- PF8 ------------------------------------------------------------------------------------------------------------


def end_to_end(office: Office) -> Sequence[Row]:
    """Beside what the offline Stripe alone would bear: it is one thread of Python on the same cores."""
    with _open_shop(office) as shop:
        log_began = office.product.log_end()
        cpu_began = shop.cpu_seconds()
        shop.forget_calls()
        seconds = office.size.buyers_seconds
        bought = shop.buy(seconds=seconds)
        cpu = {name: until - cpu_began[name] for name, until in shop.cpu_seconds().items()}
        cpu["buyers"] = bought.cpu_seconds
        calls = shop.calls()
        wrong = [*_wrong_purchases(bought), *_logged(office, since=log_began)]
        shop.tell(None)
        alone = shop.buy(seconds=min(seconds, ALONE_SECONDS), is_stripe_alone=True)
    rate, alone_rate = bought.per_second(seconds), alone.per_second(min(seconds, ALONE_SECONDS))
    p50, p99 = (load.percentile(bought.ticket_seconds, percent) * 1_000 for percent in (50, 99))
    return [
        judged(
            "PF8.rate",
            rate,
            f"{rate:.1f}/s",
            is_sound=not wrong and not alone.wrong,
            yardstick=f"{alone_rate:.1f}/s",
            ratio=rate / alone_rate,
            notes=(
                f"{len(bought.ended_at):,} purchases by {office.size.buyers} buyers in {seconds:g} s",
                "its yardstick is the offline Stripe alone, asked what a purchase asks of it (create, confirm, retrieve)",
                f"it answered {calls / max(1, len(bought.ended_at)):.1f} calls a purchase; {_shares(bought, cpu)}",
                *wrong,
            ),
            numbers={
                "purchases": len(bought.ended_at),
                "stripe_alone_per_second": alone_rate,
                "cpu_seconds": cpu,
            },
        ),
        judged(
            "PF8.ticket",
            p99,
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
            is_sound=not wrong,
            notes=(
                f"looked for every {LOOK_AGAIN_SECONDS * 1_000:.0f} ms, then asked of the shop; both are part of it",
            ),
            numbers={"p50_ms": p50, "p99_ms": p99},
        ),
    ]


def _shares(bought: Bought, cpu_seconds: dict[str, float]) -> str:
    """Who had the cores: the product, the offline Stripe, the buyers; what is missing is idle or somebody else's."""
    took = max(bought.ended_at, default=math.nan) - bought.began
    shares = sorted(cpu_seconds.items(), key=lambda item: -item[1])
    return "cores: " + ", ".join(f"{name} {seconds / took:.2f}" for name, seconds in shares)


def _wrong_purchases(bought: Bought) -> list[str]:
    return [f"WRONG: {_said(bought)}"] if bought.wrong else []


def _logged(office: Office, *, since: int) -> list[str]:
    return [f"log: {line[:300]}" for line in office.product.error_lines(since=since)[:3]]


# --- PF9 ------------------------------------------------------------------------------------------------------------


@dataclass
class Burst:
    """Events of real purchases, posted by the clock, and what became of them."""

    events: int
    seconds: float
    outcome: Outcome
    drained_seconds: float  # from the first event on
    wrong: list[str]

    @property
    def in_words(self) -> str:
        o = self.outcome
        return (
            f"{self.events:,} events in {self.seconds:g} s ({self.events / self.seconds * 60:,.0f} a minute): {o.answers()}; "
            f"in ms p50 {o.p_ms(50):.0f}, p99 {o.p_ms(99):.0f}, most {o.p_ms(100):.0f}; all dealt with after "
            f"{self.drained_seconds:.1f} s"
        )


def webhooks(office: Office) -> Sequence[Row]:
    """The moonshot's burst is only tried where the target's was served."""
    usual, most = office.size.webhooks_per_minute
    seconds = office.size.webhooks_seconds
    with _open_shop(office) as shop:
        shop.tell(None)
        burst = _burst(shop, per_minute=usual, seconds=seconds)
        again = None
        if _is_served(burst, "PF9.ack") and _is_served(burst, "PF9.drained"):
            again = _burst(shop, per_minute=most, seconds=seconds * 0.4)
    notes = [
        "real purchases made before, whose events the offline Stripe kept to itself; signed and posted by the bench",
        burst.in_words,
        *([again.in_words] if again else []),
    ]
    wrong = burst.wrong[:5]
    return [
        judged(
            "PF9.answers",
            len(burst.wrong),
            f"{burst.events:,} events: {len(burst.wrong)} wrong",
            notes=(*notes, *wrong),
        ),
        _row("PF9.ack", burst, again, measured=f"p99 {burst.outcome.p_ms(99):.0f} ms"),
        _row(
            "PF9.drained",
            burst,
            again,
            measured=f"{burst.drained_seconds:.1f} s of {burst.seconds:g} s",
            ratio=burst.drained_seconds / burst.seconds,
            notes=("for a minute's burst, 2 × are the two minutes",),
        ),
    ]


def _value(burst: Burst, row_id: str) -> float:
    return burst.outcome.p_ms(99) if row_id == "PF9.ack" else burst.drained_seconds / burst.seconds


def _is_served(burst: Burst, row_id: str) -> bool:
    return GOALS[row_id].judge(_value(burst, row_id), is_sound=not burst.wrong) is not Verdict.MISSED


def _row(row_id: str, burst: Burst, again: Burst | None, *, measured: str, **more: Any) -> Row:
    verdict = Verdict.HELD if _is_served(burst, row_id) else Verdict.MISSED
    if again is not None and _is_served(again, row_id):
        verdict = Verdict.MOONSHOT
    at_five_times = {} if again is None else {"at_five_times": _value(again, row_id)}
    return Row(row_id, _value(burst, row_id), verdict, measured, numbers=at_five_times, **more)


def _burst(shop: Shop, *, per_minute: float, seconds: float) -> Burst:
    """The buyers pay, nobody tells the office; then all of it arrives, and the books must say what happened."""
    office = shop.office
    wanted = per_minute / 60 * seconds
    bought, events = _untold(shop, at_least=math.ceil(wanted))
    log_began = office.product.log_end()
    secret = office.stack.plan.secrets.stripe_webhook_secret
    requests = tuple(_signed(office.product.host, event, secret) for event in events)
    job = office.job(office.product, *requests, kind=Kind.ONCE, seconds=seconds)
    with office.running(job) as running:
        began = running.began
        outcome = running.finish()
    ids = [event["id"] for event in events]
    drained_at = _drained_at(ids)
    wrong = [*_wrong_answers(outcome), *_wrong_books(office, ids, bought), *_logged(office, since=log_began)]
    return Burst(len(events), seconds, outcome, drained_at - began, wrong)


def _untold(shop: Shop, *, at_least: int) -> tuple[Bought, list[dict[str, Any]]]:
    """Purchases whose events are that many or a few more: each with all that belongs to it."""
    before = len(shop.events())
    one = shop.buy(purchases=1, waits_for_ticket=False)
    each = len(shop.events()) - before
    bought = shop.buy(purchases=max(1, math.ceil(at_least / each) - 1), waits_for_ticket=False)
    bought.orders += one.orders
    bought.wrong.update(one.wrong)
    return bought, shop.events()[before:]


def _signed(host: str, event: dict[str, Any], secret: str) -> bytes:
    body = json.dumps(event, indent=2).encode()
    at = int(time.time())
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return wire.request("POST", WEBHOOKS, host=host, body=body, headers={"Stripe-Signature": f"t={at},v1={digest}"})


def _drained_at(ids: list[str]) -> float:
    """When none of these events waited any more, by the monotonic clock; NaN if some waited for ever."""
    deadline = time.monotonic() + DRAINED_AT_LATEST_SECONDS
    waiting = WebhookEvent.objects.filter(stripe_id__in=ids, status=WebhookEvent.Status.RECEIVED)
    while waiting.exists():
        if time.monotonic() > deadline:
            return math.nan
        time.sleep(LOOK_AGAIN_SECONDS)
    return time.monotonic()


def _wrong_answers(outcome: Outcome) -> list[str]:
    return [f"WRONG ANSWERS: {outcome.answers()}"] if outcome.unexpected(200) else []


def _wrong_books(office: Office, ids: list[str], bought: Bought) -> list[str]:
    """Every event is kept and was dealt with, every buyer has a ticket."""
    kept = WebhookEvent.objects.filter(stripe_id__in=ids)
    done = kept.filter(status__in=[WebhookEvent.Status.PROCESSED, WebhookEvent.Status.IGNORED]).count()
    found = _wrong_purchases(bought)
    if done != len(ids):
        found.append(f"{len(ids)} events were posted, {kept.count()} are kept, {done} were dealt with")
    without = [code for code, secret in bought.orders if not _has_ticket(office, code, secret)]
    if without:
        found.append(f"{len(without)} of {len(bought.orders)} buyers have no ticket")
    return found


def _has_ticket(office: Office, code: str, secret: str) -> bool:
    status, _, said = get(office.product.port, f"/api/v1/orders/{code}/status/?secret={secret}")
    return status == 200 and json.loads(said)["done"] and json.loads(said)["tickets"] == 1
