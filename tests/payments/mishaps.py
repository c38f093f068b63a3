"""What may befall the office in the middle of an action: the process dies, or something else happens meanwhile.

The places are the product's own failpoints, each statement that writes, and each request to Stripe, before it leaves
and after its answer came. Nothing is replaced: the real SDK sends, PostgreSQL writes. A death is an exception that no
`except Exception` catches, and rolls back what was not committed.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import stripe
from django.db import connection

from config.failpoints import FailpointReached
from payments.models import Payment, Refund
from payments.stripe_gateway import NO_WORD

WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")


class Death(BaseException):
    """The process is gone."""


@dataclass(frozen=True)
class Mishap:
    """`kind` one of failpoint, write, before, after (a death there), meanwhile. `at`: a failpoint's name, or which one."""

    kind: str
    at: Any
    meanwhile: str = ""

    def __repr__(self) -> str:
        return f"Mishap({self.kind!r}, {self.at!r}{f', {self.meanwhile!r}' if self.meanwhile else ''})"


class Fate:
    """Strikes at most once within one action. What the office does meanwhile is not struck."""

    def __init__(self) -> None:
        self.mishap: Mishap | None = None
        self.happen: Callable[[str], None] = lambda what: None
        self.writes = self.requests = 0
        self.sent_without_key: list[str] = []
        self.struck = Counter[str]()

    @contextmanager
    def over(self, mishap: Mishap | None, happen: Callable[[str], None]) -> Iterator[None]:
        self.mishap, self.happen, self.writes, self.requests = mishap, happen, 0, 0
        try:
            with connection.execute_wrapper(self._statement):
                yield
        finally:
            self.mishap = None

    def _strikes(self, kind: str, at: Any) -> bool:
        is_now = self.mishap is not None and (self.mishap.kind, self.mishap.at) == (kind, at)
        if is_now and self.mishap is not None:
            self.struck[f"{kind} {self.mishap.meanwhile or at}"] += 1
        return is_now

    def _die(self, kind: str, at: Any) -> None:
        if self._strikes(kind, at):
            self.mishap = None
            raise Death(f"{kind} {at}")

    def _statement(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if str(sql).lstrip().upper().startswith(WRITES):
            self.writes += 1
            self._die("write", self.writes)
        return execute(sql, params, many, context)

    def failpoint(self, name: str) -> None:
        self._die("failpoint", name)

    def before_request(self, method: str, url: str, headers: Any) -> None:
        self.requests += 1
        if method.lower() == "post":
            self._check_key(url, (headers or {}).get("Idempotency-Key", ""))
        self._die("before", self.requests)

    def after_request(self) -> None:
        self._die("after", self.requests)
        if self.mishap and self._strikes("meanwhile", self.requests):
            what, self.mishap = self.mishap.meanwhile, None
            self.happen(what)

    def _check_key(self, url: str, key: str) -> None:
        """I8; and no transaction is open (I7), so what is seen has been committed."""
        if connection.in_atomic_block:
            self.sent_without_key.append(f"{url} inside a transaction")
        kept = Payment.objects.filter(idempotency_key=_cancelled(key)).exists()
        if not kept and not Refund.objects.filter(idempotency_key=key).exists():
            self.sent_without_key.append(f"{url} with the key {key!r}, which is not in the books")


def _cancelled(key: str) -> str:
    """The payment's key, of which each attempt to end it makes its own."""
    return key.removeprefix("cancel:").rpartition(":")[0] if key.startswith("cancel:") else key


class Failpoints(dict[str, str]):
    """In the place of `settings.FAILPOINTS`: asks fate at each place that is reached."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate

    def get(self, name: str, default: Any = None) -> Any:
        self.fate.failpoint(name)
        return default


def watched_line(fate: Fate) -> type[stripe.RequestsClient]:
    """The SDK's own HTTP client, which fate sees at work."""

    class Line(stripe.RequestsClient):
        def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
            fate.before_request(method, url, headers)
            answer = super().request(method, url, headers, post_data)
            fate.after_request()
            return answer

    return Line


class Swallowed(logging.Handler):
    """Exceptions that sweeps and webhooks logged and went on from, unless they are Stripe's bad minutes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.msg if isinstance(record.msg, dict) else {}
        error = sys.exc_info()[1] if record.exc_info or fields.get("exc_info") else None
        if error is not None and not isinstance(error, (*NO_WORD, FailpointReached, Death)):
            self.found.append(f"{type(error).__name__}: {error} ({record.getMessage()[:200]})")
