"""PF1: the engine alone, beside PostgreSQL's own tool and beside its own calls one by one. And: does a lock help?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.bench import pgbench
from deploy.bench.catalogue import new_sale
from deploy.bench.office import Office
from deploy.bench.report import Row, judged


def combined(office: Office) -> Sequence[Row]:
    size = office.size
    office.fresh_start()
    clients = pgbench.rates(
        office.stack.postgres, office.stack.folder, clients=size.pgbench_clients, seconds=size.pgbench_seconds
    )
    best = max(clients, key=lambda count: clients[count])
    office.say(f"pgbench, one statement: best {clients[best]:,.0f}/s with {best} clients")
    single = office.engine(new_sale(), threads=1, process="bench", HOLD_BATCH="1")
    alone = office.engine(new_sale(), threads=size.engine_threads, HOLD_BATCH="1")
    together = office.engine(new_sale(), threads=size.engine_threads)
    one_by_one = max(single["per_second"], alone["per_second"])
    rate = together["per_second"]
    measured = f"{rate:,.0f}/s, p99 {together['p99_ms']:.1f} ms"
    numbers = {"pgbench": clients, "single": single, "alone": alone, "together": together}
    return [
        judged(
            "PF1.pgbench",
            rate / clients[best],
            measured,
            yardstick=f"{clients[best]:,.0f}/s ({best} clients)",
            ratio=rate / clients[best],
            numbers=numbers,
            notes=("the product's hold writes three tables and their indexes, the yardstick's one",),
        ),
        judged(
            "PF1.cursor",
            rate / one_by_one,
            measured,
            yardstick=f"{one_by_one:,.0f}/s",
            ratio=rate / one_by_one,
            notes=(f"one by one: {_said(single, 'one thread')}; {_said(alone, f'{size.engine_threads} threads')}",),
        ),
    ]


def redis_lock(office: Office) -> Sequence[Row]:
    """The same calls, each inside a lock per event. What it should bring is order; what it costs is measured."""
    office.fresh_start()
    threads = office.size.engine_threads
    without = office.engine(new_sale(), threads=threads)
    polled = {pause: office.engine(new_sale(), "--lock-sleep", str(pause), threads=threads) for pause in (0.001, 0.1)}
    best = max(polled.values(), key=lambda said: float(said["per_second"]))
    ratio = best["per_second"] / without["per_second"]
    waits = "; ".join(_said(said, f"asking again every {pause * 1_000:.0f} ms") for pause, said in polled.items())
    return [
        judged(
            "lock",
            ratio,
            f"{best['per_second']:,.0f}/s",
            yardstick=f"{without['per_second']:,.0f}/s",
            ratio=ratio,
            notes=(f"with redis-py's Lock, {waits} (0.1 s is its default); without: {_said(without, 'no lock')}",),
            numbers={"without": without, "with": polled},
        )
    ]


def _said(result: dict[str, Any], how: str) -> str:
    return f"{how} {result['per_second']:,.0f}/s, p99 {result['p99_ms']:.1f} ms"
