"""The load generator: starts client processes together, and puts together what they saw.

Its processes use the same cores as the server, as many as it is told (two), the same for both sides of every ratio.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import subprocess
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.bench.jobs import Job, Kind, Tally

ROOT = Path(__file__).resolve().parents[2]
LEAD_SECONDS = 0.05  # between the word and the beginning, so that all processes begin together
SETTLE_SECONDS = 0.2  # a server that just accepted a thousand connections catches its breath


class LoadFailed(Exception):
    """A client process broke off; the message is its own."""


@dataclass(frozen=True)
class Outcome:
    tally: Tally
    began: float
    seconds: float  # how long requests were sent

    @property
    def per_second(self) -> float:
        """Answers that came while requests were still being sent."""
        until = self.began + self.seconds
        return sum(at <= until for at in self.tally.times) / self.seconds

    def p_ms(self, percent: float) -> float:
        return percentile(self.tally.latencies, percent) * 1_000

    def between(self, since: float, until: float) -> Outcome:
        """Only what was answered in that time (by the monotonic clock)."""
        pairs = zip(self.tally.times, self.tally.latencies, strict=True)
        kept = [(at, latency) for at, latency in pairs if since <= at <= until]
        tally = Tally(array("d", (at for at, _ in kept)), array("d", (latency for _, latency in kept)))
        return Outcome(tally, since, until - since)

    @property
    def client_cpu_seconds(self) -> float:
        """What one request cost the load generator itself."""
        return self.tally.cpu_seconds / max(1, len(self.tally.times))

    def unexpected(self, *expected: int) -> int:
        """How many requests got no answer, or another than these."""
        others = sum(count for status, count in self.tally.statuses.items() if status not in expected)
        return others + self.tally.broken.total()

    def answers(self) -> str:
        counted = [f"{count} × {status}" for status, count in sorted(self.tally.statuses.items())]
        return ", ".join(counted + [f"{count} broken ({why})" for why, count in self.tally.broken.items()])


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many per cent do not exceed (nearest rank)."""
    ranked = sorted(values)
    if not ranked:
        return math.nan
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


class Run:
    """A job under way. `finish` waits for it; `stop` ends it early; leaving the block ends it anyhow."""

    def __init__(self, job: Job, *, processes: int = 2) -> None:
        self.job = job
        self.children = [
            subprocess.Popen(
                [sys.executable, "-m", "deploy.bench.client"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=ROOT,
                text=True,
            )
            for _ in range(min(processes, job.connections))
        ]
        self.began = 0.0

    def __enter__(self) -> Self:
        try:
            for child, part in zip(self.children, shares(self.job, len(self.children)), strict=True):
                self._say(child, part.dumps())
            for child in self.children:
                if self._hear(child).strip() != "ready":
                    raise self._failed(child)
            if self.job.kind is Kind.BURST and self.job.is_warm:
                time.sleep(SETTLE_SECONDS)
            self.began = time.monotonic() + LEAD_SECONDS
            for child in self.children:
                self._say(child, f"go {self.began!r}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def stop(self) -> Outcome:
        sent_for = time.monotonic() - self.began
        for child in self.children:
            with contextlib.suppress(LoadFailed):  # it had ended by itself; `finish` hears how
                self._say(child, "stop")
        return dataclasses.replace(self.finish(), seconds=min(sent_for, self.job.seconds))

    def finish(self) -> Outcome:
        tally = Tally()
        for child in self.children:
            said = self._hear(child)
            if not said:
                raise self._failed(child)
            tally.add(Tally.loads(said))
        seconds = self.job.seconds or max(tally.times, default=self.began) - self.began
        return Outcome(tally, self.began, seconds)

    def _say(self, child: subprocess.Popen[str], line: str) -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed("a client process ended early") from None

    def _hear(self, child: subprocess.Popen[str]) -> str:
        assert child.stdout is not None
        return child.stdout.readline()

    def _failed(self, child: subprocess.Popen[str]) -> LoadFailed:
        child.kill()
        lines = child.communicate()[1].strip().splitlines()
        return LoadFailed(lines[-1] if lines else "a client process ended without a word")

    def _end(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


def shares(job: Job, parts: int) -> Sequence[Job]:
    """The same load from several processes: connections and arrivals divided."""
    least, more = divmod(job.connections, parts)
    return [
        dataclasses.replace(
            job,
            connections=least + (part < more),
            requests=job.requests[part::parts] if job.kind is Kind.ONCE else job.requests,
            per_second=job.per_second / parts,
            seed=job.seed * 1_000 + part,
        )
        for part in range(parts)
    ]


def run(job: Job, *, processes: int = 2) -> Outcome:
    with Run(job, processes=processes) as running:
        return running.finish()
