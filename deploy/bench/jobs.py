"""What a client process is asked to do, and what it answers: one line of JSON each way."""

from __future__ import annotations

import base64
import enum
import json
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field


class Kind(enum.StrEnum):
    CLOSED = "closed"  # each connection asks again as soon as it is answered
    OPEN = "open"  # requests arrive by a clock, whether the server keeps up or not
    ONCE = "once"  # the same, but each request arrives exactly once
    BURST = "burst"  # every connection asks once, all at one moment


@dataclass(frozen=True)
class Job:
    kind: Kind
    port: int
    requests: tuple[bytes, ...]  # sent in turn, again and again except once
    connections: int
    seconds: float = 0.0  # how long requests are sent; a burst needs none
    per_second: float = 0.0  # arrivals of an open loop
    is_warm: bool = True  # a burst over connections that stand already
    seed: int = 1
    host: str = "127.0.0.1"

    def dumps(self) -> str:
        return json.dumps({**asdict(self), "requests": [content.decode("latin-1") for content in self.requests]})

    @classmethod
    def loads(cls, text: str) -> Job:
        said = json.loads(text)
        requests = tuple(content.encode("latin-1") for content in said["requests"])
        return cls(**{**said, "kind": Kind(said["kind"]), "requests": requests})


@dataclass
class Tally:
    """What came of a job: an entry per answered request, side by side; what never came is in `broken`."""

    times: array[float] = field(default_factory=lambda: array("d"))  # of the answers, by the monotonic clock
    latencies: array[float] = field(default_factory=lambda: array("d"))  # in seconds
    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0  # what making the load cost the machine

    def note(self, status: int, at: float, latency: float) -> None:
        self.times.append(at)
        self.latencies.append(latency)
        self.statuses[status] += 1

    def add(self, other: Tally) -> None:
        self.times.extend(other.times)
        self.latencies.extend(other.latencies)
        self.statuses.update(other.statuses)
        self.broken.update(other.broken)
        self.cpu_seconds += other.cpu_seconds

    def dumps(self) -> str:
        numbers = {name: base64.b64encode(getattr(self, name).tobytes()).decode() for name in ("times", "latencies")}
        counts = {"statuses": self.statuses, "broken": self.broken, "cpu_seconds": self.cpu_seconds}
        return json.dumps({**numbers, **counts})

    @classmethod
    def loads(cls, text: str) -> Tally:
        said = json.loads(text)
        return cls(
            times=array("d", base64.b64decode(said["times"])),
            latencies=array("d", base64.b64decode(said["latencies"])),
            statuses=Counter({int(status): count for status, count in said["statuses"].items()}),
            broken=Counter(said["broken"]),
            cpu_seconds=said["cpu_seconds"],
        )
