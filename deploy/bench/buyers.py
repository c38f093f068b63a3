"""Buyers who go all the way: hold, check out, pay at the offline Stripe, and wait for their tickets.

    BENCH_WISH=… python -m deploy.bench.buyers   (prints JSON; the wish is JSON too, see `Wish`)

They use nothing but the public contract and what a browser says to Stripe. Only the waiting is done for all of them by
one small query: sixteen who ask the shop again and again would be most of what is measured. Who is told that the ticket
is there asks the shop for it, once.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import psycopg

WISH = "BENCH_WISH"  # not among the arguments, which everybody can read
LOOK_AGAIN_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
CARD = "pm_card_visa"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Wish:
    """Who buys what, for so many `seconds` or until there are so many `purchases`."""

    shop_port: int
    stripe_port: int
    event: str
    product: int
    secret_key: str
    publishable_key: str
    database_url: str
    buyers: int
    seconds: float = 0.0
    purchases: int = 0
    waits_for_ticket: bool = True
    is_stripe_alone: bool = False  # no shop: only what a purchase asks of Stripe

    def dumps(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Bought:
    """What came of it, put together from all buyers."""

    began: float = 0.0
    ended_at: list[float] = field(default_factory=list)  # of each purchase, by the monotonic clock
    ticket_seconds: list[float] = field(default_factory=list)  # from pressing "pay" to seeing the ticket
    orders: list[list[str]] = field(default_factory=list)  # code and secret
    wrong: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0

    @classmethod
    def loads(cls, text: str) -> Bought:
        said = json.loads(text)
        return cls(**{**said, "wrong": Counter(said["wrong"])})

    def per_second(self, seconds: float) -> float:
        """Purchases that were complete while new ones were still begun."""
        return sum(at <= self.began + seconds for at in self.ended_at) / seconds


class WrongAnswer(Exception):
    """Something other than a purchase needs; counted by its message."""


class Line:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        form: dict[str, str] | None = None,
        **more: str,
    ) -> dict[str, Any]:
        """The answer's JSON. Raises WrongAnswer for anything but success."""
        content = urlencode(form) if form is not None else json.dumps(body) if body is not None else None
        headers = {"Content-Type": FORM if form is not None else "application/json"} if content is not None else {}
        what = f"{method} {path.partition('?')[0].rstrip('/').rpartition('/')[2]}"
        try:
            self._connection.request(method, path, content, headers | more)
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise WrongAnswer(f"{what}: {type(error).__name__}") from error
        if not 200 <= answer.status < 300:
            raise WrongAnswer(f"{what}: {answer.status} {said[:120].decode(errors='replace')}")
        return dict(json.loads(said))


class TicketWatch(threading.Thread):
    """Looks for the tickets that buyers wait for."""

    def __init__(self, database_url: str) -> None:
        super().__init__(daemon=True)
        self._database_url = database_url
        self._waiting: dict[str, threading.Event] = {}
        self._mutex = threading.Lock()
        self._is_over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self.join()

    def wait_for(self, code: str) -> bool:
        """Whether the order with this code got its ticket in time."""
        is_there = threading.Event()
        with self._mutex:
            self._waiting[code] = is_there
        return is_there.wait(PATIENCE_SECONDS)

    def run(self) -> None:
        query = """
            SELECT o.code FROM reservations_order o JOIN reservations_orderline l ON l.order_id = o.id
            WHERE o.code = ANY(%s) AND l.ticket_id IS NOT NULL
            """
        with psycopg.connect(self._database_url, autocommit=True) as database:
            while not self._is_over.wait(LOOK_AGAIN_SECONDS):
                with self._mutex:
                    codes = list(self._waiting)
                for (code,) in database.execute(query, [codes]).fetchall() if codes else []:
                    with self._mutex:
                        self._waiting.pop(code).set()


class Buyer:
    def __init__(self, wish: Wish, watch: TicketWatch) -> None:
        self.wish = wish
        self.watch = watch
        self.shop = Line(wish.shop_port)
        self.stripe = Line(wish.stripe_port)
        self.bought = Bought()

    def buy(self, number: int) -> None:
        if self.wish.is_stripe_alone:
            self.pay_without_shop()
        else:
            self.pay(*self.check_out(number))
        self.bought.ended_at.append(time.monotonic())

    def check_out(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        lines = [{"product": self.wish.product, "quantity": 1}]
        held = self.shop.ask("POST", "/api/v1/reservations/", {"event": self.wish.event, "lines": lines})
        details = {"email": f"buyer-{number}@example.org", "name": f"Buyer {number}"}
        done = self.shop.ask("POST", f"/api/v1/reservations/{held['id']}/checkout/", details)
        return done["order"], done["payment"]

    def pay(self, order: dict[str, Any], payment: dict[str, Any]) -> None:
        pressed_at = time.monotonic()
        self.confirm(payment["stripe_payment_intent_id"], payment["client_secret"])
        self.bought.orders.append([order["code"], order["secret"]])
        if self.wish.waits_for_ticket:
            self.wait_for_ticket(order)
            self.bought.ticket_seconds.append(time.monotonic() - pressed_at)

    def confirm(self, intent: str, client_secret: str) -> None:
        form = {"client_secret": client_secret, "payment_method": CARD, "use_stripe_sdk": "true"}
        bearer = f"Bearer {self.wish.publishable_key}"
        said = self.stripe.ask("POST", f"/v1/payment_intents/{intent}/confirm", form=form, Authorization=bearer)
        if said["status"] != "succeeded":
            raise WrongAnswer(f"the payment is {said['status']}")

    def wait_for_ticket(self, order: dict[str, Any]) -> None:
        if not self.watch.wait_for(order["code"]):
            raise WrongAnswer(f"no ticket after {PATIENCE_SECONDS:.0f} s")
        said = self.shop.ask("GET", f"/api/v1/orders/{order['code']}/status/?secret={order['secret']}")
        if not said["done"] or said["tickets"] != 1:
            raise WrongAnswer(f"{said['tickets']} tickets for one, done: {said['done']}")

    def pay_without_shop(self) -> None:
        """What the shop and the buyer ask of Stripe in one purchase: create, confirm, retrieve."""
        bearer = f"Bearer {self.wish.secret_key}"
        form = {"amount": "2500", "currency": "eur", "automatic_payment_methods[enabled]": "true"}
        intent = self.stripe.ask("POST", "/v1/payment_intents", form=form, Authorization=bearer)
        self.confirm(intent["id"], intent["client_secret"])
        self.stripe.ask("GET", f"/v1/payment_intents/{intent['id']}", Authorization=bearer)


def buy(wish: Wish) -> Bought:
    """All buyers begin together; who has begun a purchase when the time is over still finishes it."""
    watch = TicketWatch(wish.database_url)
    buyers = [Buyer(wish, watch) for _ in range(wish.buyers)]
    turns = itertools.count()
    began = time.monotonic()

    def shall_be(number: int) -> bool:
        return number < wish.purchases if wish.purchases else time.monotonic() < began + wish.seconds

    def work(buyer: Buyer) -> None:
        while shall_be(number := next(turns)):
            try:
                buyer.buy(number)
            except WrongAnswer as error:
                buyer.bought.wrong[str(error)] += 1

    threads = [threading.Thread(target=work, args=(buyer,)) for buyer in buyers]
    with watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    together = Bought(began=began, cpu_seconds=time.process_time())
    for buyer in buyers:
        together.ended_at += buyer.bought.ended_at
        together.ticket_seconds += buyer.bought.ticket_seconds
        together.orders += buyer.bought.orders
        together.wrong.update(buyer.bought.wrong)
    return together


def main() -> int:
    sys.stdout.write(json.dumps(asdict(buy(Wish(**json.loads(os.environ[WISH]))))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
