"""What the demo tells when it is ready: a page for people, and `demo.json` for programmes."""

from __future__ import annotations

import os
from typing import Any

from deploy.local.parts import Part
from deploy.local.plan import Plan
from deploy.local.screen import Screen

PUBLIC_ROLES = ("postgres", "redis", "stripe", "web", "worker", "beat")
TEST_CARDS = (
    ("4242 4242 4242 4242", "succeeds"),
    ("4000 0000 0000 9995", "is declined (insufficient funds)"),
    ("4000 0025 0000 3155", "asks for 3-D Secure"),
    ("DE89 3704 0044 0532 0130 00", "bank debit (Northern Lights): the bank answers in seconds, not days"),
)


def demo_json(plan: Plan, parts: dict[str, Part], filled: dict[str, Any]) -> dict[str, Any]:
    """A role that is down for the moment has the pid null; one that is external has none."""
    assert plan.stripe is not None
    pids = {role: parts[role].pid for role in PUBLIC_ROLES if role in parts}
    return {
        "base_url": plan.base_url,
        "admin": {"url": plan.base_url + "/admin/", **filled.get("admin", {})},
        "staff_token": filled.get("staff_token"),
        "metrics_token": plan.secrets.metrics_token,
        "maintenance_secret": plan.secrets.maintenance_secret,
        "stripe": {
            "api_base": plan.stripe.api_base,
            "publishable_key": plan.stripe.publishable_key,
            "secret_key": plan.stripe.secret_key,
            "webhook_secret": plan.stripe.webhook_secrets.split(",")[0].strip(),
            "dashboard_url": plan.stripe.dashboard_url,
            "control_url": plan.stripe.control_url,
        },
        "mailbox_url": plan.mailbox_url,
        "database_url": plan.database_url,
        "redis_url": plan.redis_url,
        "pids": {"supervisor": os.getpid(), **pids},
    }


def show(screen: Screen, plan: Plan, filled: dict[str, Any]) -> None:
    assert plan.stripe is not None
    links = [("Shop", plan.base_url + "/")]
    links += [(str(event["name"]), plan.base_url + str(event["path"])) for event in filled.get("events", [])]
    links += [
        ("Staff", plan.base_url + "/admin/"),
        ("E-mails", _mail(plan)),
        ("Stripe", plan.stripe.dashboard_url),
    ]
    screen.table("Open in a browser", links)
    admin = filled.get("admin", {})
    screen.table("Staff login", [("user", admin.get("username", "?")), ("password", admin.get("password", "?"))])
    screen.table("Test cards (any future date, any CVC)", TEST_CARDS)
    screen.table(
        "Good to know",
        [
            ("logs", f"{plan.var.path / 'log'}/<role>.log"),
            ("for programmes", str(plan.var.demo_json)),
            ("stop a part", "make demo-stop-part ROLE=worker   (and demo-start-part)"),
            ("stop it all", "Ctrl-C; the data is kept (make demo-reset erases it)"),
        ],
    )
    if "stripe" in plan.external:
        screen.line(
            "\n  Real Stripe (test mode) cannot reach this machine by itself:\n"
            f"    stripe listen --forward-to {plan.base_url}/webhooks/stripe/"
        )
    screen.line()


def _mail(plan: Plan) -> str:
    for name in ("RESEND_API_KEY", "EMAIL_URL"):
        if plan.caller.get(name):
            return f"sent for real ({name} is set)"
    return plan.mailbox_url
