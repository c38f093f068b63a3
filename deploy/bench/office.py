"""What every row works with: the stack, the sizes, and ways to put load on product and yardstick in turn."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deploy.bench import load, wire
from deploy.bench.catalogue import Sale, forget_holds
from deploy.bench.jobs import Job, Kind
from deploy.bench.load import Outcome
from deploy.bench.sizes import Size
from deploy.bench.stack import Stack, Web, cores
from deploy.local.plan import ROOT
from deploy.local.screen import Screen

RESERVATIONS = "/api/v1/reservations/"
WARM_UP_SECONDS = 0.3


@dataclass
class Pair:
    """Rounds of the product and of its yardstick, taken in turn."""

    product: list[Outcome] = field(default_factory=list)
    empty: list[Outcome] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        together = zip(self.product, self.empty, strict=True)
        return statistics.median(product.per_second / empty.per_second for product, empty in together)

    @property
    def product_per_second(self) -> float:
        return statistics.median(outcome.per_second for outcome in self.product)

    @property
    def empty_per_second(self) -> float:
        return statistics.median(outcome.per_second for outcome in self.empty)

    @property
    def ratio_without_client(self) -> float:
        """As if the load came from another machine: true as far as the cores are the limit, on both sides."""

        def server_seconds(outcome: Outcome) -> float:
            return cores() / outcome.per_second - outcome.client_cpu_seconds

        together = zip(self.product, self.empty, strict=True)
        return statistics.median(server_seconds(empty) / server_seconds(product) for product, empty in together)

    def unexpected(self, *expected: int) -> int:
        return sum(outcome.unexpected(*expected) for outcome in self.product)

    def count(self, status: int) -> int:
        return sum(outcome.tally.statuses[status] for outcome in self.product)

    def p99(self) -> str:
        both = [statistics.median(outcome.p_ms(99) for outcome in side) for side in (self.product, self.empty)]
        return f"p99 {both[0]:.0f} ms, empty view {both[1]:.0f} ms"


class Office:
    def __init__(self, stack: Stack, size: Size, screen: Screen, *, processes: int) -> None:
        self.stack = stack
        self.size = size
        self.screen = screen
        self.processes = processes
        self.client_cpu_seconds: list[float] = []

    @cached_property
    def product(self) -> Web:
        return self.stack.start_product()

    @cached_property
    def empty(self) -> Web:
        return self.stack.start_empty()

    @cached_property
    def middlewares(self) -> Web:
        return self.stack.start_empty_with_middlewares()

    def say(self, text: str) -> None:
        self.screen.detail(text)

    def fresh_start(self) -> None:
        with self.stack.superuser() as database:
            forget_holds(database)

    # --- requests ------------------------------------------------------------------------------------

    def hold(self, sale: Sale, *, has_key: bool = False) -> bytes:
        headers = {"Idempotency-Key": wire.KEY_PLACE.decode()} if has_key else {}
        return wire.request("POST", RESERVATIONS, host=self.product.host, body=sale.body, headers=headers)

    def nothing(self, sale: Sale) -> bytes:
        """The same request, to a view that does nothing."""
        return wire.request("POST", "/empty/", host=self.empty.host, body=sale.body)

    # --- load ----------------------------------------------------------------------------------------

    def job(self, web: Web, *requests: bytes, kind: Kind = Kind.CLOSED, **more: Any) -> Job:
        settings = {"connections": self.size.connections, "seconds": self.size.seconds, **more}
        return Job(kind, web.port, requests, **settings)

    def run(self, job: Job) -> Outcome:
        outcome = load.run(job, processes=self.processes)
        if job.kind is Kind.CLOSED:
            self.client_cpu_seconds.append(outcome.client_cpu_seconds)
        return outcome

    def running(self, job: Job) -> load.Run:
        return load.Run(job, processes=self.processes)

    def in_turn(self, product: Job, empty: Job, *, rounds: int | None = None) -> Pair:
        """Warms both up, then measures them one after the other, round by round."""
        pair = Pair()
        for job in (empty, product):
            self.run(Job(Kind.CLOSED, job.port, job.requests, job.connections, WARM_UP_SECONDS))
        for _ in range(rounds or self.size.rounds):
            pair.empty.append(self.run(empty))
            if pair.empty[-1].unexpected(200):
                raise RuntimeError(f"the empty view was answered {pair.empty[-1].answers()}")
            pair.product.append(self.run(product))
        return pair

    # --- the engine without HTTP ---------------------------------------------------------------------

    def engine(self, sale: Sale, *options: str, threads: int, process: str = "web", **env: str) -> dict[str, Any]:
        """`process`: "web" shares the few connections of a web process's pool; any other keeps one per thread."""
        command = [sys.executable, "-m", "deploy.bench.engine", sale.slug, str(sale.product)]
        command += ["--threads", str(threads), "--seconds", str(self.size.engine_seconds), *options]
        child, log = self.stack.spawn(f"engine-{sale.slug}", command, self.stack.environment(process, **env))
        child.popen.wait()
        self.stack.stop(child)
        lines = log.read_text().splitlines()
        if child.popen.returncode != 0 or not lines or not lines[-1].startswith("{"):
            raise RuntimeError(f"the engine's process failed: {lines[-1] if lines else 'no word'}")
        said: dict[str, Any] = json.loads(lines[-1])
        if said["errors"]:
            raise RuntimeError(f"the engine's threads failed: {said['errors'][0]}")
        return said

    def manage(self, *arguments: str) -> tuple[int, str]:
        """A management command in a process of its own: its exit code and its last line."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        child, log = self.stack.spawn(arguments[0], command, self.stack.environment("command"))
        code = child.popen.wait()
        self.stack.stop(child)
        lines = log.read_text(errors="replace").splitlines()
        return code, lines[-1] if lines else ""
