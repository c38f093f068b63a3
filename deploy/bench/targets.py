"""The targets, as numbers. What a row measured is judged here and nowhere else."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    MOONSHOT = "moonshot"
    HELD = "held"
    MISSED = "MISSED"
    FAILED = "COULD NOT RUN"
    INFORMATION = "-"


@dataclass(frozen=True)
class Bound:
    limit: float
    is_floor: bool
    unit: str

    def holds(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return value >= self.limit if self.is_floor else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_floor else '≤'} {self.limit:,.10g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Goal:
    what: str
    target: Bound | None = None
    moonshot: Bound | None = None

    def judge(self, value: float, *, is_sound: bool = True) -> Verdict:
        """`is_sound`: whether everything was answered as it should be; a fast error is no success."""
        if self.target is None:
            return Verdict.INFORMATION
        if not is_sound or not self.target.holds(value):
            return Verdict.MISSED
        return Verdict.MOONSHOT if self.moonshot and self.moonshot.holds(value) else Verdict.HELD


def at_least(limit: float, unit: str = "×") -> Bound:
    return Bound(limit, is_floor=True, unit=unit)


def at_most(limit: float, unit: str = "×") -> Bound:
    return Bound(limit, is_floor=False, unit=unit)


GOALS = {
    "PF1.pgbench": Goal("engine, one hot quota, to pgbench's best one-statement form", at_least(2), at_least(4)),
    "PF1.cursor": Goal("engine, to its own calls one by one", at_least(4)),
    "PF2": Goal("POST of a hold, one hot quota, to an empty view", at_least(0.30), at_least(0.55)),
    "PF2.key": Goal("the same, each with an Idempotency-Key of its own"),
    "PF2.middleware": Goal("an empty view behind the product's middlewares, to the bare one"),
    "PF3.exact": Goal("all at once: wrong answers, oversold or unsold seats, error lines", at_most(0, "")),
    "PF3.warm": Goal("all at once, connections open: p99 to the empty view's", at_most(3.5), at_most(1.5)),
    "PF3.cold": Goal("all at once, connecting first: p99 to the empty view's", at_most(3.5), at_most(1.5)),
    "PF4": Goal("arrivals by the clock: p99", at_most(100, "ms"), at_most(100, "ms, twice the arrivals")),
    "PF5": Goal("sold-out answer, to an empty view", at_least(0.5), at_least(0.8)),
    "PF5.key": Goal("the same, each with an Idempotency-Key of its own"),
    "PF6": Goal("availability, 200 and 304 in turn, to an empty view", at_least(0.7), at_least(0.9)),
    "PF7.duration": Goal("release of expired holds during PF2", at_least(10_000, "/s"), at_least(33_333, "/s")),
    "PF7.p99": Goal("buyers' p99 meanwhile, to that without", at_most(2)),
    "PF8.rate": Goal("purchases from hold to ticket, by 16 buyers", at_least(25, "/s"), at_least(80, "/s")),
    "PF8.ticket": Goal('from pressing "pay" to the ticket: p99', at_most(5_000, "ms"), at_most(1_000, "ms")),
    "PF9.answers": Goal("webhook burst: events refused, lost or without effect", at_most(0, "")),
    "PF9.ack": Goal("webhook burst: p99 of the answer", at_most(100, "ms"), at_most(100, "ms, five times the events")),
    "PF9.drained": Goal(
        "webhook burst: from its first event until all are dealt with, by its length",
        at_most(2),
        at_most(2, "×, five times the events"),
    ),
    "PF10.statements": Goal("SQL statements per hold", at_most(3, ""), at_most(1, "")),
    "PF10.writes": Goal("write transactions per hold", at_most(1, "")),
    "PF10.lock": Goal("time under the quota's lock per hold, commit included", at_most(1, "ms")),
    "PF12": Goal("memory of the whole stack, idle", at_most(500, "MiB"), at_most(350, "MiB")),
    "PF13": Goal("PF2 after many past holds: slower by", at_most(1.2), at_most(1.05)),
    "lock": Goal("engine with a Redis lock around each call, to without"),
}
