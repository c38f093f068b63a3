"""Instants as people read them: in the event's own time zone, in the reader's language."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from babel.dates import format_datetime, format_time, format_timedelta
from django.utils import translation


def _locale() -> str:
    return translation.to_locale(translation.get_language() or "en")


def in_words(instant: datetime, time_zone: str) -> str:
    """`Sat, 12 December 2026, 20:00` there."""
    local = instant.astimezone(ZoneInfo(time_zone))
    return format_datetime(local, "EEE, d MMMM yyyy, HH:mm", locale=_locale())


def span_in_words(starts_at: datetime, ends_at: datetime | None, time_zone: str) -> str:
    """`Sat, 12 December 2026, 20:00 – 23:00`; the end's date only where it is another day."""
    begin = in_words(starts_at, time_zone)
    if ends_at is None:
        return begin
    zone = ZoneInfo(time_zone)
    same_day = starts_at.astimezone(zone).date() == ends_at.astimezone(zone).date()
    end = clock_time(ends_at, time_zone) if same_day else in_words(ends_at, time_zone)
    return f"{begin} – {end}"


def clock_time(instant: datetime, time_zone: str, *, seconds: bool = False) -> str:
    """`20:00` or `20:00:05` there."""
    pattern = "HH:mm:ss" if seconds else "HH:mm"
    return format_time(instant.astimezone(ZoneInfo(time_zone)), pattern, locale=_locale())


def wait_in_words(seconds: int) -> str:
    """`40 seconds`, `3 minutes` or `5 hours`: never less than it is."""
    unit = 1 if seconds < 120 else 60 if seconds < 7_200 else 3_600
    return format_timedelta(timedelta(seconds=math.ceil(seconds / unit) * unit), threshold=2, locale=_locale())


def rfc3339(instant: datetime) -> str:
    """`2026-12-12T19:00:00.000000Z`: how the public contract writes times."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
