"""Bar charts as the page draws them: where each bar stands, in percent across and pixels up, so that a chart fits any
width without stretching its letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_datetime

HEIGHT = 160  # pixels, without the labels below
LABELS_BELOW = 22


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of thing that is counted. Those with the same `stack` stand on top of each other."""

    name: str  # of its values, and of its colour in the style sheet
    title: Any
    stack: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    x: str
    width: str
    y: str
    height: str


@dataclass(slots=True)
class Column:
    """One step of time: its bars, and its numbers in words for whoever points at it or cannot see it."""

    label: str
    x: str
    width: str
    middle: str
    mark: str  # what stands below it; empty for most
    is_minor: bool  # a mark that a telephone has no room for
    values: list[int]
    bars: list[Bar] = field(default_factory=list)
    title: str = ""


@dataclass(slots=True)
class Gridline:
    y: str
    value: int


@dataclass(slots=True)
class Chart:
    series: Sequence[Series]
    columns: list[Column]
    grid: list[Gridline]
    height: int = HEIGHT
    full_height: int = HEIGHT + LABELS_BELOW

    @property
    def is_empty(self) -> bool:
        return not any(value for column in self.columns for value in column.values)


def chart(buckets: Sequence[Any], series: Sequence[Series], *, step: timedelta, zone: ZoneInfo) -> Chart:
    """`buckets` have `starts_at` and a number under each series' name."""
    stacks = sorted({one.stack for one in series})
    highest = max(
        (
            sum(getattr(bucket, one.name) for one in series if one.stack == stack)
            for bucket in buckets
            for stack in stacks
        ),
        default=0,
    )
    top = _round_up(highest)
    column_width = 100 / max(len(buckets), 1)
    columns = []
    for number, bucket in enumerate(buckets):
        column = _column(bucket, series, number, column_width, step, zone, buckets)
        column.bars = list(_bars(bucket, series, stacks, number * column_width, column_width, top))
        columns.append(column)
    grid = [Gridline(f"{HEIGHT - HEIGHT * value / top:.1f}", value) for value in _grid_values(top)]
    return Chart(series, columns, grid)


def _column(
    bucket: Any,
    series: Sequence[Series],
    number: int,
    width: float,
    step: timedelta,
    zone: ZoneInfo,
    buckets: Sequence[Any],
) -> Column:
    begins, ends = bucket.starts_at.astimezone(zone), (bucket.starts_at + step).astimezone(zone)
    label = f"{_words(begins, 'EEE d MMM, HH:mm')} – {_words(ends, 'HH:mm')}"
    values = [getattr(bucket, one.name) for one in series]
    numbers = ", ".join(f"{value} {one.title}" for one, value in zip(series, values, strict=True))
    before = buckets[number - 1].starts_at.astimezone(zone) if number else None
    mark, is_minor = _mark(begins, before, step)
    return Column(
        label=label,
        x=f"{number * width:.3f}",
        width=f"{width:.3f}",
        middle=f"{(number + 0.5) * width:.3f}",
        mark=mark,
        is_minor=is_minor,
        values=values,
        title=f"{label}: {numbers}",
    )


def _bars(bucket: Any, series: Sequence[Series], stacks: list[int], x: float, width: float, top: int) -> Any:
    """Side by side within the column, a tenth of it left free on either side."""
    bar_width = width * 0.8 / len(stacks)
    for place, stack in enumerate(stacks):
        base = 0.0
        for one in series:
            value = getattr(bucket, one.name)
            if one.stack != stack or not value:
                continue
            height = max(1.0, HEIGHT * value / top)
            left = x + width * 0.1 + place * bar_width
            yield Bar(one.name, f"{left:.3f}", f"{bar_width:.3f}", f"{HEIGHT - base - height:.1f}", f"{height:.1f}")
            base += height


def _mark(begins: datetime, before: datetime | None, step: timedelta) -> tuple[str, bool]:
    """What is written below a column: days for long steps, hours, or quarters of an hour."""
    if step >= timedelta(hours=3):
        is_new_day = before is not None and before.date() != begins.date()
        return (_words(begins, "EEE d"), False) if is_new_day else ("", False)
    if step >= timedelta(hours=1):
        return (_words(begins, "HH:mm"), begins.hour % 6 != 0) if begins.hour % 3 == 0 else ("", False)
    return (_words(begins, "HH:mm"), begins.minute % 30 != 0) if begins.minute % 15 == 0 else ("", False)


def _words(instant: datetime, pattern: str) -> str:
    return format_datetime(instant, pattern, locale="en_GB")


def _round_up(highest: int) -> int:
    """The next of 4, 6, 8, 10, 20, 40, 60, 80, 100, 200 …: few digits, and half of it is a whole number too."""
    size = 1
    while True:
        for digit in (2, 4, 6, 8, 10):
            if digit * size >= max(highest, 4):
                return digit * size
        size *= 10


def _grid_values(top: int) -> list[int]:
    return [0, top // 2, top]
