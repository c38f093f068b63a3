"""What processes cost, from Linux: memory with shared pages counted once (PSS), and time on the cores."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """In KiB. `pss` gives each page to the processes that share it in equal parts."""

    pss: int = 0
    private: int = 0
    rss: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss + other.pss, self.private + other.private, self.rss + other.rss)


def family(pid: int) -> list[int]:
    """The process and all its descendants (PostgreSQL's children lead sessions of their own)."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (parent := _parent_of(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def _parent_of(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it has ended meanwhile


def of_process(pid: int) -> Memory:
    text = (PROC / str(pid) / "smaps_rollup").read_text()
    kib = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    return Memory(kib["Pss"], kib["Private_Clean"] + kib["Private_Dirty"], kib["Rss"])


def of_families(pids: Iterable[int]) -> Memory:
    return sum((of_process(member) for pid in pids for member in family(pid)), Memory())


def cpu_seconds(pid: int) -> float:
    """What the process and all its descendants have had of the cores so far, those that have ended included."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = (PROC / str(member) / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
