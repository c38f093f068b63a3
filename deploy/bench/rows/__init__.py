"""The rows, in the order in which they are measured (memory first, while everything is fresh)."""

from collections.abc import Callable, Sequence

from deploy.bench.office import Office
from deploy.bench.report import Row
from deploy.bench.rows import cost, engine, growth, http, purchases, rush

Measure = Callable[[Office], Sequence[Row]]

ROWS: dict[str, Measure] = {
    "PF12": cost.memory,
    "PF1": engine.combined,
    "PF2": http.holds,
    "PF3": rush.all_at_once,
    "PF4": rush.by_the_clock,
    "PF5": http.sold_out,
    "PF6": http.availability,
    "PF7": growth.sweep,
    "PF8": purchases.end_to_end,
    "PF9": purchases.webhooks,
    "PF10": cost.statements,
    "PF13": growth.past,
    "lock": engine.redis_lock,
}
ONLY_WHEN_ASKED = ("lock",)  # in the long form, or by name
