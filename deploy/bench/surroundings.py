"""What numbers depend on beside the product: the disk, the cores, and who else uses them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.bench.sizes import Size

FLUSHES = 40
PAGE = b"\0" * 8_192
FAST_FLUSH_MS = 0.02  # no disk is that fast: memory, or a cache that lies


@dataclass
class Surroundings:
    load_before: float
    began_at: str
    flush_ms: float = field(default=float("nan"))

    @classmethod
    def look(cls) -> Surroundings:
        return cls(os.getloadavg()[0], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def measure_disk(self, folder: Path) -> None:
        """How long one durable write of a page takes: the floor of every commit."""
        path = folder / "flush"
        took = []
        with path.open("wb", buffering=0) as file:
            for _ in range(FLUSHES):
                file.write(PAGE)
                began = time.monotonic()
                os.fsync(file.fileno())
                took.append(time.monotonic() - began)
        path.unlink()
        self.flush_ms = statistics.median(took) * 1_000

    def facts(self) -> dict[str, str]:
        return {
            "began_at": self.began_at,
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": f"{self.load_before:.2f}",
            "flush_ms": f"{self.flush_ms:.2f}",
        }

    def remarks(self, size: Size, facts: Mapping[str, str], *, processes: int, seconds: float) -> Iterator[str]:
        yield (
            f"PostgreSQL {facts['postgresql']}, Python {facts['python']}, {facts['cores']} cores, "
            f"{facts['workers']} web processes of {facts['blocking_threads']} threads; "
            f"a flush to disk {self.flush_ms:.2f} ms; {seconds:.0f} s in all."
        )
        yield f"This was {size.says}."
        yield (
            f"The load comes from {processes} processes on the same cores, {facts.get('client_us_per_request', '?')} µs of CPU "
            "a request, for product and yardstick alike. Read the ratios: absolute numbers belong to this machine and hour."
        )
        if self.load_before > 0.5:
            yield f"WARNING: others were using this machine (load {self.load_before:.1f} before the start): numbers are noisy."
        if self.flush_ms < FAST_FLUSH_MS:
            yield "WARNING: flushes cost nothing here, so this is no disk, and nothing durable was measured."
