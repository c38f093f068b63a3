"""The whole office for tests: offline Stripe, web, worker and beat as real processes on a database of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import requests

from deploy.local import ports, processes
from deploy.local.services import EmbeddedValkey
from tests.stripe_sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parent.parent
WEBHOOK_SECRET = "whsec_of_the_tests"
READY_SECONDS = 60.0

_PREPARE = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, interactive=False)
call_command("collectstatic", verbosity=0, interactive=False)
"""


class Office:
    """Starts everything once; tests share it and tell their own events apart. `stop` and `start` take a role."""

    def __init__(self, folder: Path, *, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.redis = EmbeddedValkey(folder / "redis")  # its own, so that a test may kill it
        self.port = ports.free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.mailbox = folder / "mailbox"
        self.stripe = SandboxProcess(
            state=folder / "stripe.sqlite3",
            webhook_url=f"{self.base_url}/webhooks/stripe/",
            webhook_secret=WEBHOOK_SECRET,
            extra_arguments=("--retry-seconds", "0.3,0.5,1,2"),
        )
        self.children: dict[str, processes.Child] = {}

    def __enter__(self) -> Self:
        self.mailbox.mkdir(parents=True)
        self.redis.start()
        self.stripe.start()
        subprocess.run([sys.executable, "-c", _PREPARE], env=self.environment(), cwd=ROOT, check=True, timeout=120)
        for role in ("web", "worker", "beat"):
            self.start(role)
        self.wait_until_ready()
        return self

    def __exit__(self, *error: object) -> None:
        for role in list(self.children):
            self.stop(role)
        self.stripe.stop()
        self.redis.stop()

    def environment(self, **more: str) -> dict[str, str]:
        """What the processes run with: as in production, but for the offline Stripe."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": "a secret key of the test suite, long enough for production",
            "DEBUG": "off",
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "PUBLIC_URL": self.base_url,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis.url,
            "STRIPE_SECRET_KEY": self.stripe.secret_key,
            "STRIPE_PUBLISHABLE_KEY": self.stripe.publishable_key,
            "STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "STRIPE_API_BASE": self.stripe.api_base,
            "STRIPE_JS_URL": self.stripe.stripe_js_url,
            "MAIL_FOLDER": str(self.mailbox),
            "STATIC_ROOT": str(self.folder / "static"),
            "LOG_LEVEL": "INFO",
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def start(self, role: str, **environment: str) -> None:
        """Starts a part; `environment` adds variables (FAILPOINTS needs DEBUG=on beside it)."""
        env = self.environment(COUNTERFOIL_PROCESS=role, **environment)
        with self.log(role).open("ab") as output:
            self.children[role] = processes.spawn(_commands(self.port)[role], output=output.fileno(), env=env, cwd=ROOT)

    def stop(self, role: str) -> None:
        self.children.pop(role).stop([(signal.SIGTERM, 8.0)])

    def kill(self, role: str) -> None:
        """SIGKILL to the part and everything it forked."""
        self.children.pop(role).kill()

    def restart(self, role: str, **environment: str) -> None:
        if role in self.children:
            self.stop(role)
        self.start(role, **environment)

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def wait_until_ready(self) -> None:
        """Until the web answers and beat's heartbeat has come through broker and worker."""
        deadline = time.monotonic() + READY_SECONDS
        state: Mapping[str, object] = {}
        while time.monotonic() < deadline:
            try:
                answer = requests.get(f"{self.base_url}/readyz/", timeout=5)
                state = answer.json()
                if answer.status_code == 200 and state["status"] == "ok":
                    return
            except (requests.RequestException, ValueError):
                pass
            time.sleep(0.2)
        raise RuntimeError(f"the office is not ready: {state}")


def _commands(port: int) -> dict[str, list[str]]:
    web = ["granian", "--interface", "wsgi", "config.wsgi:application", "--host", "127.0.0.1", "--port", str(port)]
    web += ["--workers", "1", "--blocking-threads", "64", "--no-ws", "--backlog", "2048", "--backpressure", "2048"]
    worker = ["celery", "-A", "config", "worker", "--queues", "checkout,email,background", "--concurrency", "2"]
    worker += ["--without-mingle", "--without-gossip", "--loglevel", "INFO"]
    beat = ["celery", "-A", "config", "beat", "--loglevel", "INFO"]
    return {name: [sys.executable, "-m", *argv] for name, argv in (("web", web), ("worker", worker), ("beat", beat))}
