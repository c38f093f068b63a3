"""What a demo consists of: which services are embedded, which the caller's, what each process is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.services import EmbeddedPostgres, EmbeddedService, EmbeddedValkey
from deploy.local.var_folder import DemoSecrets, VarFolder

ROOT = Path(__file__).resolve().parents[2]
STRIPE_NEEDS = ("STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY", "STRIPE_WEBHOOK_SECRETS")
WEB_PROCESSES = 2
# Threads that wait for the same event's quota share one call and one connection (docs/decisions/0007); the pool's limit
# keeps all of them far below PostgreSQL's 100 connections.
WEB_THREADS = 64
# Connections that one process takes on. Granian's default, half the backlog, leaves the others waiting for 30 seconds.
WEB_CONNECTIONS = 2_048


class PlanError(ValueError):
    """The environment asks for something the demo cannot do; the message is for people."""


@dataclass(frozen=True)
class Stripe:
    api_base: str
    js_url: str
    secret_key: str
    publishable_key: str
    webhook_secrets: str
    dashboard_url: str
    control_url: str | None


@dataclass
class Plan:
    var: VarFolder
    secrets: DemoSecrets
    web_port: int
    ports: dict[str, int]
    external: dict[str, str]  # role → the variable that brought it
    caller: Mapping[str, str]
    services: dict[str, EmbeddedService] = field(default_factory=dict)
    stripe: Stripe | None = None  # the offline one is known when it has started

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def mailbox_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['mailbox']}/"

    @property
    def database_url(self) -> str:
        return self.services["postgres"].url if "postgres" in self.services else self.caller["DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.services["redis"].url if "redis" in self.services else self.caller["REDIS_URL"]

    def common_env(self) -> dict[str, str]:
        """The caller's environment without what would change our servers behind our back."""
        unwanted = ("GRANIAN_", "PG") if "postgres" in self.services else ("GRANIAN_",)
        env = {name: value for name, value in self.caller.items() if not name.startswith(unwanted)}
        env["PYTHONUNBUFFERED"] = "1"
        for name in ("NO_PROXY", "no_proxy"):  # a company's proxy must not see loopback requests
            env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1", "localhost"]))
        return env

    def product_env(self, process: str) -> dict[str, str]:
        assert self.stripe is not None, "the product starts after Stripe"
        return {
            **self.common_env(),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "COUNTERFOIL_PROCESS": process,
            "DEMO": "on",
            "DEBUG": "off",
            "SECRET_KEY": self.secrets.secret_key,
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "PUBLIC_URL": self.base_url,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "STRIPE_SECRET_KEY": self.stripe.secret_key,
            "STRIPE_PUBLISHABLE_KEY": self.stripe.publishable_key,
            "STRIPE_WEBHOOK_SECRETS": self.stripe.webhook_secrets,
            "STRIPE_API_BASE": self.stripe.api_base,
            "STRIPE_JS_URL": self.stripe.js_url,
            "STRIPE_METADATA_ENV": "counterfoil-demo",  # the same whichever port the demo gets
            "METRICS_TOKEN": self.secrets.metrics_token,
            "MAINTENANCE_SECRET": self.secrets.maintenance_secret,
            "MAIL_FOLDER": str(self.var.mailbox),
            "DEFAULT_FROM_EMAIL": self.caller.get("DEFAULT_FROM_EMAIL") or "tickets@counterfoil.example",
            "STATIC_ROOT": str(self.var.path / "static"),
            "ADMIN_REQUIRE_2FA": self.caller.get("ADMIN_REQUIRE_2FA", "off"),
            "DEMO_ADMIN_PASSWORD": self.secrets.admin_password,
        }

    def stripe_env(self) -> dict[str, str]:
        return {
            **self.common_env(),
            "STRIPE_SANDBOX_SECRET_KEY": self.secrets.stripe_secret_key,
            "STRIPE_SANDBOX_PUBLISHABLE_KEY": self.secrets.stripe_publishable_key,
            "STRIPE_SANDBOX_WEBHOOK_SECRET": self.secrets.stripe_webhook_secret,
        }

    # --- commands ------------------------------------------------------------------------------------

    def demo_data_command(self) -> list[str]:
        return [sys.executable, str(ROOT / "manage.py"), "demo_data", "--json"]

    def commands(self) -> dict[str, list[str]]:
        python = sys.executable
        return {
            "stripe": [
                *(
                    python,
                    "-m",
                    "tests.stripe_sandbox",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.ports["stripe"]),
                ),
                *("--state", str(self.var.path / "stripe.sqlite3")),
                *("--webhook-url", f"{self.base_url}/webhooks/stripe/"),
                *("--payment-method-types", "card,sepa_debit"),
            ],
            "web": [
                *(python, "-m", "granian", "--interface", "wsgi", "config.wsgi:application"),
                *("--host", "127.0.0.1", "--port", str(self.web_port), "--no-ws", "--no-reload"),
                *(
                    "--workers",
                    str(WEB_PROCESSES),
                    "--blocking-threads",
                    str(WEB_THREADS),
                    "--backlog",
                    str(WEB_CONNECTIONS),
                    "--backpressure",
                    str(WEB_CONNECTIONS),
                ),
                *("--respawn-failed-workers", "--respawn-interval", "0.5", "--workers-kill-timeout", "5"),
            ],
            "worker": [
                *(python, "-m", "celery", "-A", "config", "worker", "--queues", "checkout,email,background"),
                *("--concurrency", "2", "--without-mingle", "--without-gossip", "--loglevel", "INFO"),
            ],
            "beat": [
                *(python, "-m", "celery", "-A", "config", "beat", "--loglevel", "INFO"),
                *("--scheduler", "django_celery_beat.schedulers:DatabaseScheduler"),
            ],
            "mailbox": [
                *(python, "-m", "deploy.local.mailbox", "--port", str(self.ports["mailbox"])),
                *("--folder", str(self.var.mailbox)),
            ],
        }


def external_stripe(caller: Mapping[str, str]) -> Stripe | None:
    if not caller.get("STRIPE_SECRET_KEY"):
        return None
    missing = [name for name in STRIPE_NEEDS if not caller.get(name)]
    if missing:
        raise PlanError(f"STRIPE_SECRET_KEY is set, so {' and '.join(missing)} must be set too.")
    if not caller["STRIPE_SECRET_KEY"].startswith(("sk_test_", "rk_test_")):
        raise PlanError("STRIPE_SECRET_KEY is not a test key. The demo never touches real money.")
    return Stripe(
        api_base=caller.get("STRIPE_API_BASE") or "https://api.stripe.com",
        js_url=caller.get("STRIPE_JS_URL") or "https://js.stripe.com/v3/",
        secret_key=caller["STRIPE_SECRET_KEY"],
        publishable_key=caller["STRIPE_PUBLISHABLE_KEY"],
        webhook_secrets=caller["STRIPE_WEBHOOK_SECRETS"],
        dashboard_url="https://dashboard.stripe.com/test/payments",
        control_url=None,
    )


def make_plan(var: VarFolder, web_port: int, caller: Mapping[str, str] = os.environ) -> Plan:
    stripe = external_stripe(caller)
    external = {"postgres": "DATABASE_URL", "redis": "REDIS_URL", "stripe": "STRIPE_SECRET_KEY"}
    plan = Plan(
        var=var,
        secrets=var.secrets(),
        web_port=web_port,
        ports=var.ports(("postgres", "redis", "stripe", "mailbox"), taken=web_port),
        external={role: name for role, name in external.items() if caller.get(name)},
        caller=caller,
        stripe=stripe,
    )
    if "postgres" not in plan.external:
        plan.services["postgres"] = EmbeddedPostgres(
            var.path / "postgres", durable=True, port=plan.ports["postgres"], log_file=var.log("postgres")
        )
    if "redis" not in plan.external:
        plan.services["redis"] = EmbeddedValkey(var.path / "redis", port=plan.ports["redis"], log_file=var.log("redis"))
    return plan
