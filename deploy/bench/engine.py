"""One process that calls `reservations.holds.reserve` from many threads: the engine without HTTP.

python -m deploy.bench.engine EVENT PRODUCT --threads 32 --seconds 3   (prints JSON)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402 - after the set-up
from django.db import close_old_connections, connections  # noqa: E402

from deploy.bench.load import percentile  # noqa: E402
from reservations import holds  # noqa: E402


def hammer(
    event: str, product: int, *, threads: int, seconds: float, guard: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    """Holds per second. After each call the connection goes back to the pool, as it does at the end of a web request."""
    lines = [holds.Wanted(product, None, 1)]
    latencies: list[array[float]] = [array("d") for _ in range(threads)]
    errors: list[str] = []
    barrier = threading.Barrier(threads + 1)

    def work(seen: array[float]) -> None:
        try:
            holds.reserve(event, lines=lines)  # connects, plans
            close_old_connections()
            barrier.wait()
            until = time.monotonic() + seconds
            while (began := time.monotonic()) < until:
                with guard():
                    holds.reserve(event, lines=lines)
                close_old_connections()
                seen.append(time.monotonic() - began)
        except Exception as error:  # reported to whoever started us, with the numbers
            errors.append(repr(error))
            barrier.abort()
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work, args=(seen,)) for seen in latencies]
    for worker in workers:
        worker.start()
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        errors.append("a thread could not begin")
    began = time.monotonic()
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    together = [latency for seen in latencies for latency in seen]
    return {
        "per_second": len(together) / took,
        "p50_ms": percentile(together, 50) * 1_000,
        "p99_ms": percentile(together, 99) * 1_000,
        "count": len(together),
        "errors": errors,
    }


def redis_lock(name: str, sleep_seconds: float) -> Callable[[], AbstractContextManager[Any]]:
    """What many shops put around a sale: one lock per event in Redis (redis-py's own, which waits by polling)."""
    import redis

    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    return lambda: client.lock(f"bench:{name}", timeout=10, sleep=sleep_seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("event")
    parser.add_argument("product", type=int)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--lock-sleep", type=float, help="gate each call with a Redis lock that is polled so often")
    options = parser.parse_args()
    guard: Callable[[], AbstractContextManager[Any]] = nullcontext
    if options.lock_sleep is not None:
        guard = redis_lock(options.event, options.lock_sleep)
    result = hammer(options.event, options.product, threads=options.threads, seconds=options.seconds, guard=guard)
    sys.stdout.write(json.dumps({**result, "hold_batch": getattr(settings, "HOLD_BATCH", 1)}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
