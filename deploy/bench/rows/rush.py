"""PF3 and PF4: everybody at one moment, and everybody by the clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.bench.catalogue import Sale, new_sale
from deploy.bench.jobs import Job, Kind
from deploy.bench.load import Outcome
from deploy.bench.office import Office
from deploy.bench.report import Row, judged
from deploy.bench.stack import Web
from deploy.bench.targets import GOALS, Verdict
from ticketing.models import Quota

STALL_MS = 5_000


@dataclass
class Bursts:
    product_p99_ms: list[float] = field(default_factory=list)
    empty_p99_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0


def all_at_once(office: Office) -> Sequence[Row]:
    """Each burst is a sale of its own; the empty view gets the same burst just before."""
    office.fresh_start()
    log_began = office.product.log_end()
    kinds = {"PF3.warm": Bursts(), "PF3.cold": Bursts()}
    _burst(office, new_sale(capacity=1), is_warm=True, bursts=Bursts())  # threads and pools come into being
    for _ in range(office.size.bursts):
        for row_id, bursts in kinds.items():
            _burst(office, new_sale(capacity=office.size.burst_seats), is_warm=row_id == "PF3.warm", bursts=bursts)
    errors = office.product.error_lines(since=log_began)
    wrong = [text for bursts in kinds.values() for text in bursts.wrong] + [f"log: {line[:300]}" for line in errors]
    count = office.size.bursts * 2
    exact = judged(
        "PF3.exact",
        len(wrong),
        f"{count} bursts of {office.size.burst_buyers:,} for {office.size.burst_seats}: {len(wrong)} wrong",
        notes=tuple(wrong[:5]),
    )
    return [exact, *(_latency(row_id, bursts) for row_id, bursts in kinds.items())]


def _burst(office: Office, sale: Sale, *, is_warm: bool, bursts: Bursts) -> None:
    empty = office.run(_at_once(office, office.empty, office.nothing(sale), is_warm=is_warm))
    product = office.run(_at_once(office, office.product, office.hold(sale), is_warm=is_warm))
    bursts.empty_p99_ms.append(empty.p_ms(99))
    bursts.product_p99_ms.append(product.p_ms(99))
    bursts.slowest_ms = max(bursts.slowest_ms, product.p_ms(100))
    bursts.wrong += _mistakes(product, sale, buyers=office.size.burst_buyers)


def _at_once(office: Office, web: Web, request: bytes, *, is_warm: bool) -> Job:
    return Job(Kind.BURST, web.port, (request,), office.size.burst_buyers, is_warm=is_warm)


def _mistakes(outcome: Outcome, sale: Sale, *, buyers: int) -> list[str]:
    quota = Quota.objects.get(pk=sale.quota)
    seats = quota.capacity
    expected = {201: min(seats, buyers), 409: max(0, buyers - seats)}
    is_right = dict(outcome.tally.statuses) == expected and not outcome.tally.broken
    found = [] if is_right else [f"a burst was answered {outcome.answers()}"]
    if outcome.p_ms(100) > STALL_MS:  # a median over bursts would hide it
        found.append(f"an answer took {outcome.p_ms(100) / 1_000:.1f} s")
    return found if quota.held == expected[201] else [*found, f"{quota.held} seats are held of {seats}"]


def _latency(row_id: str, bursts: Bursts) -> Row:
    product, empty = statistics.median(bursts.product_p99_ms), statistics.median(bursts.empty_p99_ms)
    return judged(
        row_id,
        product / empty,
        f"p99 {product:.0f} ms",
        yardstick=f"p99 {empty:.0f} ms",
        ratio=product / empty,
        notes=(
            f"p99 of the bursts: {_list(bursts.product_p99_ms)} ms; empty view: {_list(bursts.empty_p99_ms)} ms",
            f"the slowest answer of all {bursts.slowest_ms:.0f} ms",
        ),
        numbers={"product_p99_ms": bursts.product_p99_ms, "empty_p99_ms": bursts.empty_p99_ms},
    )


def _list(values: Sequence[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)


def by_the_clock(office: Office) -> Sequence[Row]:
    """The moonshot's arrivals are only tried where the target's were served."""
    office.fresh_start()
    sale = new_sale()
    usual, twice = office.size.arrivals_per_second
    seconds = office.size.arrivals_seconds
    request = office.hold(sale)
    office.run(office.job(office.product, request, seconds=0.5))
    empty = _arrivals(office, office.nothing(sale), usual, seconds / 4, web_is_empty=True)
    outcome = _arrivals(office, request, usual, seconds)
    p99, wrong = outcome.p_ms(99), outcome.unexpected(201)
    notes = [_arrived(usual, seconds, outcome) + ", each from the moment it was due"]
    verdict = GOALS["PF4"].judge(p99, is_sound=wrong == 0)
    p99_twice = math.nan
    if verdict is Verdict.MOONSHOT:
        more = _arrivals(office, request, twice, seconds * 0.4)
        p99_twice = more.p_ms(99)
        notes.append(_arrived(twice, seconds * 0.4, more))
        if more.unexpected(201) or GOALS["PF4"].judge(p99_twice) is not Verdict.MOONSHOT:
            verdict = Verdict.HELD
    return [
        Row(
            "PF4",
            p99,
            verdict,
            f"p99 {p99:.0f} ms, {wrong} errors",
            yardstick=f"p99 {empty.p_ms(99):.0f} ms",
            notes=tuple(notes),
            numbers={"p99_ms": p99, "p99_ms_at_twice": None if math.isnan(p99_twice) else p99_twice},
        )
    ]


def _arrived(per_second: float, seconds: float, outcome: Outcome) -> str:
    spread = ", ".join(
        f"{name} {outcome.p_ms(percent):.0f}" for name, percent in (("p50", 50), ("p99", 99), ("most", 100))
    )
    return f"{per_second:.0f} arrivals/s for {seconds:g} s: {outcome.answers()}; in ms {spread}"


def _arrivals(
    office: Office, request: bytes, per_second: float, seconds: float, *, web_is_empty: bool = False
) -> Outcome:
    web = office.empty if web_is_empty else office.product
    return office.run(office.job(web, request, kind=Kind.OPEN, per_second=per_second, seconds=seconds))
