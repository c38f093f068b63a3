"""How much is measured: the short form for every day, the long one for the record, a tiny one for the tool's own tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    name: str
    says: str
    rounds: int  # yardstick and product in turn, so that a machine that slows down slows both
    seconds: float  # of each such measurement
    connections: int
    pgbench_seconds: int
    pgbench_clients: tuple[int, ...]
    engine_seconds: float
    engine_threads: int
    bursts: int
    burst_buyers: int
    burst_seats: int
    arrivals_seconds: float
    arrivals_per_second: tuple[float, float]  # the target's and the moonshot's
    buyers: int  # who go all the way to their tickets
    buyers_seconds: float
    webhooks_seconds: float
    webhooks_per_minute: tuple[float, float]  # the target's and the moonshot's
    expired_holds: int
    past_holds: tuple[int, ...]
    single_holds: int
    settle_seconds: float


SHORT = Size(
    name="short",
    says="the short form: PF4 and PF9 run 10 s instead of 60 s, PF8 8 s instead of 60 s, PF7 releases 20,000 holds "
    "instead of 100,000, PF13 grows to 50,000 past holds instead of 1,000,000 (make bench ARGS=--full)",
    rounds=2,
    seconds=1.2,
    connections=100,
    pgbench_seconds=1,
    pgbench_clients=(1, 2, 4, 8, 16),
    engine_seconds=2,
    engine_threads=32,
    bursts=3,
    burst_buyers=1_000,
    burst_seats=100,
    arrivals_seconds=10,
    arrivals_per_second=(300, 600),
    buyers=16,
    buyers_seconds=8,
    webhooks_seconds=10,
    webhooks_per_minute=(2_000, 10_000),
    expired_holds=20_000,
    past_holds=(10, 10_000, 50_000),
    single_holds=100,
    settle_seconds=2,
)
FULL = Size(
    name="full",
    says="the long form: every number as the target says it",
    rounds=4,
    seconds=5,
    connections=100,
    pgbench_seconds=8,
    pgbench_clients=(1, 2, 4, 8, 16),
    engine_seconds=10,
    engine_threads=32,
    bursts=10,
    burst_buyers=1_000,
    burst_seats=100,
    arrivals_seconds=60,
    arrivals_per_second=(300, 600),
    buyers=16,
    buyers_seconds=60,
    webhooks_seconds=60,
    webhooks_per_minute=(2_000, 10_000),
    expired_holds=100_000,
    past_holds=(10, 10_000, 1_000_000),
    single_holds=500,
    settle_seconds=10,
)
TINY = Size(
    name="tiny",
    says="the tiny form, for the tests of this tool: its numbers mean nothing",
    rounds=1,
    seconds=0.3,
    connections=10,
    pgbench_seconds=1,
    pgbench_clients=(1,),
    engine_seconds=0.3,
    engine_threads=8,
    bursts=1,
    burst_buyers=60,
    burst_seats=10,
    arrivals_seconds=1,
    arrivals_per_second=(20, 40),
    buyers=2,
    buyers_seconds=1,
    webhooks_seconds=2,
    webhooks_per_minute=(600, 1_200),
    expired_holds=200,
    past_holds=(10, 100, 1_000),
    single_holds=20,
    settle_seconds=0.2,
)
