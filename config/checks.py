"""System checks of the settings: a wrong value is named by variable, with a stable id, before anything runs."""

import ipaddress
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register

from config import environment
from config.logs import LEVELS


def register_all() -> None:
    register(check_settings, Tags.compatibility)
    register(check_deployment, Tags.security, deploy=True)


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Errors that make the office unsafe or unable to work, whatever the machine."""
    return [*_unreadable(), *_core(), *_stripe()]


def _unreadable() -> Iterator[CheckMessage]:
    for name, problem in environment.mistakes:
        yield Error(f"{name} cannot be read: {problem}", hint=f"Correct {name} (.env.example).", id="counterfoil.E001")


def _core() -> Iterator[CheckMessage]:
    if settings.SECRET_KEY == settings.UNSAFE_SECRET_KEY and not settings.DEBUG:
        yield Error("SECRET_KEY is not set.", hint="Set 50 random characters, or DEBUG=on.", id="counterfoil.E002")
    engine = settings.DATABASES["default"].get("ENGINE", "")
    if not engine.endswith("postgresql"):
        yield Error(
            f"DATABASE_URL names {engine or 'no database'}; the stock rules need PostgreSQL.",
            hint="DATABASE_URL=postgres://user:password@host:5432/name",
            id="counterfoil.E003",
        )
    if urlsplit(settings.PUBLIC_URL).scheme not in {"http", "https"}:
        yield Error("PUBLIC_URL must be an http(s) address.", hint="PUBLIC_URL=https://…", id="counterfoil.E004")
    if settings.FAILPOINTS and not settings.DEBUG:
        yield Error("FAILPOINTS is set: it makes the office fail on purpose.", id="counterfoil.E007")
    for proxy in settings.TRUSTED_PROXIES:
        if not _is_network(proxy):
            yield Error(f"TRUSTED_PROXIES: {proxy} is no address or network.", id="counterfoil.E009")
    if settings.LOG_LEVEL not in LEVELS:
        yield Error(f"LOG_LEVEL={settings.LOG_LEVEL} is no level.", id="counterfoil.E008")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _stripe() -> Iterator[CheckMessage]:
    secret, publishable = settings.STRIPE_SECRET_KEY, settings.STRIPE_PUBLISHABLE_KEY
    if secret and not settings.STRIPE_WEBHOOK_SECRETS:
        yield Error(
            "STRIPE_SECRET_KEY is set but STRIPE_WEBHOOK_SECRETS is not: every webhook would be refused.",
            id="counterfoil.E005",
        )
    if secret and publishable and ("_live_" in secret) != ("_live_" in publishable):
        yield Error("STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY mix live and test mode.", id="counterfoil.E006")


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Warnings that stand in the way of going live (`check --deploy`)."""
    return list(_going_live())


def _going_live() -> Iterator[CheckMessage]:
    if not settings.STRIPE_SECRET_KEY:
        yield checks.Warning("STRIPE_SECRET_KEY is not set: only free products can be sold.", id="counterfoil.W001")
    if settings.EMAIL_BACKEND.endswith("filebased.EmailBackend"):
        yield checks.Warning(
            "No mail provider is set: e-mails are only written to files.",
            hint="Set RESEND_API_KEY or EMAIL_URL.",
            id="counterfoil.W002",
        )
    if settings.IS_DEMO:
        yield checks.Warning("DEMO=on: this is a demonstration, not a shop.", id="counterfoil.W003")
