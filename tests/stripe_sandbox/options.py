"""What the process is told at start: flags, each with an environment variable of the same name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

ENVIRONMENT_PREFIX = "STRIPE_SANDBOX_"


@dataclass(frozen=True)
class Options:
    host: str = "127.0.0.1"
    port: int = 0
    state: str | None = None
    secret_key: str = "sk_test_offline"
    publishable_key: str = "pk_test_offline"
    webhook_url: str | None = None
    webhook_secrets: tuple[str, ...] = ()
    merchant: str = "Counterfoil"
    payment_method_types: tuple[str, ...] = ("card",)
    retry_seconds: tuple[float, ...] = (1, 2, 4, 8, 15, 30, 60)
    webhook_timeout_seconds: float = 10.0
    webhook_concurrency: int = 8
    stop_with_parent: bool = field(default=False)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stripe_sandbox",
        description="Offline Stripe: test mode, no real money. Prints one line of JSON when it listens.",
        epilog=f"Every option can also be given in the environment, e.g. {ENVIRONMENT_PREFIX}PORT=8600.",
    )

    def option(name: str, help_text: str, default: str | None = None) -> None:
        value = os.environ.get(ENVIRONMENT_PREFIX + name.upper().replace("-", "_"), default)
        parser.add_argument(f"--{name}", default=value, help=f"{help_text} (default: {default or 'none'})")

    option("host", "address to listen on", "127.0.0.1")
    option("port", "port to listen on; 0 takes a free one", "0")
    option("state", "SQLite file that survives a restart; without it, memory only")
    option("secret-key", "the account's secret key", Options.secret_key)
    option("publishable-key", "the account's publishable key", Options.publishable_key)
    option("webhook-url", "where events are delivered")
    option("webhook-secret", "signing secret; several, comma-separated, while one is being rolled")
    option("merchant", "business name shown on the 3-D Secure page", Options.merchant)
    option("payment-method-types", "what the Dashboard has switched on: card, sepa_debit", "card")
    option("retry-seconds", "pauses between webhook attempts; the last one repeats", "1,2,4,8,15,30,60")
    option("webhook-timeout", "seconds a webhook receiver has to answer", "10")
    option("webhook-concurrency", "webhooks in flight at once", "8")
    parser.add_argument("--stop-with-parent", action="store_true", help="exit when the parent process dies")
    return _options(parser, parser.parse_args(arguments))


def _options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    try:
        return Options(
            host=given.host,
            port=int(given.port),
            state=given.state or None,
            secret_key=given.secret_key,
            publishable_key=given.publishable_key,
            webhook_url=given.webhook_url or None,
            webhook_secrets=_list(given.webhook_secret),
            merchant=given.merchant,
            payment_method_types=_list(given.payment_method_types),
            retry_seconds=tuple(float(pause) for pause in _list(given.retry_seconds)),
            webhook_timeout_seconds=float(given.webhook_timeout),
            webhook_concurrency=int(given.webhook_concurrency),
            stop_with_parent=given.stop_with_parent,
        )
    except ValueError as error:
        parser.error(str(error))


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
