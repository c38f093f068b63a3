"""Instants in words, also in the night when the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import translation

from config.dates import clock_time, in_words, rfc3339, span_in_words

BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "there"),
    [
        (utc(2026, 3, 29, 0, 59), "01:59"),
        (utc(2026, 3, 29, 1, 0), "03:00"),
        (utc(2026, 10, 25, 0, 30), "02:30"),
        (utc(2026, 10, 25, 1, 30), "02:30"),
        (utc(2026, 10, 25, 2, 0), "03:00"),
    ],
)
def test_the_clock_on_the_wall_in_the_night_of_the_change(instant, there):
    """Spring has no 02:30, autumn has two of them."""
    assert clock_time(instant, BERLIN) == there


def test_a_show_over_the_night_of_the_change():
    """The end is in the new time, and on its own date."""
    words = span_in_words(utc(2026, 3, 28, 21), utc(2026, 3, 29, 2), BERLIN)
    assert words == "Sat, 28 March 2026, 22:00 – Sun, 29 March 2026, 04:00"


def test_the_same_day_is_the_same_day_there():
    """22:30 to 23:30 in Berlin is over midnight in UTC and yet one day; in Sydney it is another morning."""
    begin, end = utc(2026, 7, 1, 21, 30), utc(2026, 7, 1, 22, 30)
    assert span_in_words(begin, end, "Europe/London") == "Wed, 1 July 2026, 22:30 – 23:30"
    assert span_in_words(begin, end, BERLIN) == "Wed, 1 July 2026, 23:30 – Thu, 2 July 2026, 00:30"
    assert span_in_words(begin, None, "Australia/Sydney") == "Thu, 2 July 2026, 07:30"


def test_any_zone_may_be_given():
    local = datetime(2026, 12, 12, 20, tzinfo=ZoneInfo("America/New_York"))
    assert in_words(local, BERLIN) == "Sun, 13 December 2026, 02:00"
    assert rfc3339(local) == "2026-12-13T01:00:00.000000Z"
    assert clock_time(local + timedelta(seconds=5), "UTC", seconds=True) == "01:00:05"


def test_words_are_in_the_readers_language():
    with translation.override("de"):
        assert in_words(utc(2026, 12, 12, 19), BERLIN) == "Sa., 12 Dezember 2026, 20:00"
