"""What comes out: a table for people, JSON for programmes, an exit code for both."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.bench.targets import GOALS, Verdict

HEADINGS = ("id", "what", "measured", "yardstick", "ratio", "target", "moonshot", "verdict")


class ExitCode(enum.IntEnum):
    ALL_HELD = 0
    MISSED = 1
    COULD_NOT_RUN = 2


@dataclass(frozen=True)
class Row:
    """One line of the table. `value` is what the target speaks of; where that is a ratio, so is `value`."""

    id: str
    value: float
    verdict: Verdict
    measured: str
    yardstick: str = ""
    ratio: float | None = None
    notes: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        goal = GOALS.get(self.id)
        what = goal.what if goal else ""
        target = str(goal.target or "") if goal else ""
        moonshot = str(goal.moonshot or "") if goal else ""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} ×"
        return (self.id, what, self.measured, self.yardstick, ratio, target, moonshot, self.verdict)


def judged(row_id: str, value: float, measured: str, *, is_sound: bool = True, **more: Any) -> Row:
    """A row whose value was held against its goal."""
    verdict = GOALS[row_id].judge(value, is_sound=is_sound)
    return Row(row_id, value, verdict, measured, **more)


def failed(row_id: str, why: str) -> Row:
    return Row(row_id, float("nan"), Verdict.FAILED, "", notes=(why,))


def all_failed(prefix: str, why: str) -> list[Row]:
    """Every line that this row would have had."""
    return [failed(row_id, why) for row_id in GOALS if row_id.partition(".")[0] == prefix]


def exit_code(rows: Iterable[Row]) -> ExitCode:
    verdicts = {row.verdict for row in rows}
    if not verdicts or Verdict.FAILED in verdicts:
        return ExitCode.COULD_NOT_RUN
    return ExitCode.MISSED if Verdict.MISSED in verdicts else ExitCode.ALL_HELD


def table(rows: Sequence[Row]) -> str:
    """In Markdown, so that it can be pasted; the notes below it."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    shown = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"- {row.id}: {note}" for row in rows for note in row.notes]
    return "\n".join([*shown, "", *notes] if notes else shown)


def write_json(path: Path, rows: Sequence[Row], *, facts: dict[str, Any]) -> None:
    said = [
        {
            **asdict(row),
            "value": None if row.value != row.value else row.value,  # JSON knows no NaN
            "what": row.cells[1],
            "target": row.cells[5],
            "moonshot": row.cells[6],
        }
        for row in rows
    ]
    content = {**facts, "exit_code": int(exit_code(rows)), "rows": said}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
