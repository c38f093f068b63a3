"""What is measured: a durable PostgreSQL, Valkey and web processes of our own, set up as `make demo` sets them up."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from deploy.local import ports, processes
from deploy.local.plan import ROOT, Plan, Stripe, make_plan
from deploy.local.services import EmbeddedPostgres, ServiceError
from deploy.local.var_folder import VarFolder

START_SECONDS = 60.0
# Nothing of the caller's may reach the processes: not another database, not another Stripe.
NOT_INHERITED = (
    *("DATABASE_", "REDIS_", "STRIPE_", "DJANGO_", "COUNTERFOIL_", "RESEND_", "EMAIL_", "SENTRY_", "FAILPOINTS"),
    *("HOLD_", "CHECKOUT_", "RATE_", "SYNC_"),
)
# Limits stay on, because counting costs something too, but never refuse: all our buyers come from one address.
NEVER_REFUSES = "100000000/m"
STATEMENTS = "pg_stat_statements"
# A log line that says so, whether it is the product's JSON or the server's own words.
ERROR = re.compile(r'"level":\s*"(error|critical)"|\[ERROR\]|Traceback|panicked')


@dataclass
class Web:
    """A granian with one of the applications."""

    port: int
    log: Path
    child: processes.Child

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log_end(self) -> int:
        return self.log.stat().st_size

    def error_lines(self, *, since: int) -> list[str]:
        """What was logged as an error after `since` bytes; the server's own complaints are no JSON."""
        with self.log.open("rb") as file:
            file.seek(since)
            lines = file.read().decode(errors="replace").splitlines()
        return [line for line in lines if ERROR.search(line)]


class Stack:
    """Everything lives in `folder` and ends with the block; each process is ended by its own pid."""

    def __init__(self, folder: Path, *, workers: int, threads: int, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.workers = workers
        self.threads = threads
        caller = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        self.plan: Plan = make_plan(VarFolder(folder), ports.free_port(), caller)
        self.plan.stripe = Stripe(
            api_base=f"http://127.0.0.1:{self.plan.ports['stripe']}",  # nobody is there until a row sells (start_stripe)
            js_url=f"http://127.0.0.1:{self.plan.ports['stripe']}/v3/stripe.js",
            secret_key=self.plan.secrets.stripe_secret_key,
            publishable_key=self.plan.secrets.stripe_publishable_key,
            webhook_secrets=self.plan.secrets.stripe_webhook_secret,
            dashboard_url="",
            control_url=None,
        )
        self.postgres = self._postgres(STATEMENTS)
        self.has_statements = True
        self.redis = self.plan.services["redis"]
        self.variables = dict(variables)  # whoever runs the bench may try other settings of the product
        self.children: list[processes.Child] = []

    def _postgres(self, preload: str) -> EmbeddedPostgres:
        postgres = EmbeddedPostgres(
            self.folder / "postgres",
            durable=True,
            port=self.plan.ports["postgres"],
            log_file=self.folder / "log" / "postgres.log",
            options={"shared_preload_libraries": preload},
        )
        self.plan.services["postgres"] = postgres
        return postgres

    # --- start and end -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.plan.var.mailbox.mkdir(parents=True)
            try:
                self.postgres.start()
            except ServiceError:
                if "could not access file" not in self.postgres.log_tail():
                    raise
                self.postgres = self._postgres("")  # a PostgreSQL of the system, without its contrib package
                self.has_statements = False
                self.postgres.start()
            if self.has_statements:
                self.track_statements("none")
            self.redis.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for child in reversed(self.children):
            self.stop(child)
        self.redis.stop()
        self.postgres.stop()

    def stop(self, child: processes.Child) -> None:
        self.children.remove(child)
        child.stop([(signal.SIGTERM, 8.0)])

    # --- processes -----------------------------------------------------------------------------------

    def environment(self, process: str, **more: str) -> dict[str, str]:
        """As in production: no debugging, limits on, one log line a request."""
        return {
            **self.plan.product_env(process),
            "DEMO": "off",
            "LOG_LEVEL": "INFO",
            "RATE_LIMITS": "on",
            "HOLD_LIMIT_PER_BUYER": NEVER_REFUSES,
            "HOLD_LIMIT_PER_ADDRESS": NEVER_REFUSES,
            "CHECKOUT_LIMIT_PER_BUYER": NEVER_REFUSES,
            "CHECKOUT_LIMIT_PER_ADDRESS": NEVER_REFUSES,
            "SYNC_LIMIT_PER_ADDRESS": NEVER_REFUSES,
            **self.variables,
            **more,
        }

    def start_product(self) -> Web:
        return self._start_web("web", "config.wsgi:application", "/livez/")

    def start_empty(self) -> Web:
        return self._start_web("empty", "deploy.bench.empty:application", "/empty/")

    def start_empty_with_middlewares(self) -> Web:
        more = {"DJANGO_SETTINGS_MODULE": "deploy.bench.settings"}
        return self._start_web("middlewares", "config.wsgi:application", "/empty/", **more)

    def _start_web(self, name: str, application: str, ready_path: str, **more: str) -> Web:
        """The demo's own command line, but for the application, the port and the numbers of workers and threads."""
        port = ports.free_port(avoid=frozenset(self.plan.ports.values()))
        argv = ["config.wsgi:application", "--port", "--workers", "--blocking-threads"]
        values = [application, str(port), str(self.workers), str(self.threads)]
        command = self.plan.commands()["web"]
        command[command.index(argv[0])] = values[0]
        for option, value in zip(argv[1:], values[1:], strict=True):
            command[command.index(option) + 1] = value
        child, log = self.spawn(name, command, self.environment("web", **more))
        web = Web(port, log, child)
        wait_until(lambda: answers(port, ready_path), f"the web process ({name})", child, log)
        return web

    def start_worker_and_beat(self) -> list[processes.Child]:
        commands = self.plan.commands()
        return [self.spawn(role, commands[role], self.environment(role))[0] for role in ("worker", "beat")]

    def start_stripe(self) -> processes.Child:
        """The offline Stripe as the demo has it, but telling nobody of its events until it is given an address."""
        command = self.plan.commands()["stripe"]
        at = command.index("--webhook-url")
        child, log = self.spawn("stripe", [*command[:at], *command[at + 2 :]], self.plan.stripe_env())
        wait_until(lambda: answers(self.plan.ports["stripe"], "/_control/"), "the offline Stripe", child, log)
        return child

    def spawn(self, name: str, command: list[str], env: Mapping[str, str]) -> tuple[processes.Child, Path]:
        log = self.folder / "log" / f"{name}.log"
        with log.open("ab") as output:
            child = processes.spawn(command, output=output.fileno(), env=env, cwd=ROOT)
        self.children.append(child)
        return child, log

    # --- the database --------------------------------------------------------------------------------

    def superuser(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.postgres.superuser_url, autocommit=True)

    def track_statements(self, what: str) -> None:
        """Counting statements costs a little, so only the row that asks for it has it on."""
        with self.superuser() as database:
            database.execute(f"ALTER SYSTEM SET {STATEMENTS}.track = '{what}'")
            database.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)  # sessions read it before their next statement

    def prepare(self, *, static_files: bool) -> None:
        """Django in this process, as a command; all tables."""
        os.environ.update(self.environment("command"))
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        if static_files:
            call_command("collectstatic", verbosity=0, interactive=False)
        else:
            (self.folder / "static").mkdir()

    def facts(self) -> dict[str, str]:
        with self.superuser() as connection:
            version = connection.execute("SELECT split_part(version(), ' on ', 1)").fetchone()
        return {
            "postgresql": version[0].removeprefix("PostgreSQL ") if version else "?",
            "python": sys.version.split()[0],
            "cores": str(cores()),
            "workers": str(self.workers),
            "blocking_threads": str(self.threads),
        }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get(port: int, path: str, *, timeout: float = 5.0) -> tuple[int, Mapping[str, str], bytes]:
    return call(port, "GET", path, timeout=timeout)


def call(
    port: int, method: str, path: str, *, body: bytes | None = None, timeout: float = 5.0
) -> tuple[int, Mapping[str, str], bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException, socket.timeout):
        return get(port, path)[0] == http.HTTPStatus.OK
    return False


def wait_until(condition: Callable[[], bool], what: str, child: processes.Child, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if not child.is_running or time.monotonic() > deadline:
            tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-8:])
            raise ServiceError(f"{what} does not answer:\n  {tail}")
        time.sleep(0.05)
