"""How single values look in lists and on read-only pages."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from babel.dates import format_datetime
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ticketing.admin.decorators import display

GOOD, WAITING, BAD, PLAIN = "success", "warning", "danger", "info"


def status_column(colours: dict[str, str]) -> Callable[[Any, Any], tuple[str, str]]:
    """The status as a coloured label; a status without a colour is grey."""

    @display(description=_("status"), ordering="status", label=colours)
    def status_label(self: Any, row: Any) -> tuple[str, str]:
        return row.status, row.get_status_display()

    return status_label


def link_to(url_name: str, pk: Any, text: Any) -> SafeString:
    """A link to an admin page, by URL name: apps do not import each other's admin for it."""
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(f"admin:{url_name}", args=[pk]), text)


def list_url(url_name: str, **query: Any) -> str:
    """The address of an admin list, filtered."""
    address = reverse(f"admin:{url_name}_changelist")
    return f"{address}?{urlencode(query)}" if query else address


def link_out(address: str, text: Any) -> SafeString:
    """A link that leaves the back office, in a new tab."""
    return format_html('<a class="text-link" href="{}" target="_blank" rel="noopener">{}</a>', address, text)


def side_by_side(*links: SafeString) -> SafeString:
    return format_html_join(" · ", "{}", ([link] for link in links))


def two_lines(first: Any, second: Any) -> SafeString:
    """What belongs together, in one column: a name and its address, say."""
    return format_html('<span style="white-space: nowrap">{}<br><small>{}</small></span>', first, second)


def clipped(text: Any, length: int = 32) -> SafeString:
    """On one line, the rest in a tooltip."""
    return format_html('<span style="white-space: nowrap" title="{}">{}</span>', text, Truncator(text).chars(length))


def breakable(text: Any) -> SafeString:
    """A long key that may be wrapped anywhere, so that it fits a telephone."""
    return format_html('<span style="overflow-wrap: anywhere">{}</span>', text)


def scrollable(contents: SafeString) -> SafeString:
    """What has long lines (JSON) scrolls in its own box instead of widening the page."""
    return format_html('<div style="overflow-x: auto; max-width: calc(100vw - 4rem)">{}</div>', contents)


def moment(instant: datetime | None) -> SafeString | str:
    """Short, on one line, in UTC as everything in the office is that does not belong to one event."""
    if instant is None:
        return ""
    in_utc = instant.astimezone(UTC)
    return format_html(
        '<time style="white-space: nowrap" datetime="{}" title="{}">{}</time>',
        in_utc.isoformat(),
        f"{in_utc:%Y-%m-%d %H:%M:%S} UTC",
        format_datetime(in_utc, "d MMM yyyy, HH:mm", locale="en_GB"),
    )


def moment_column(field: str, description: Any) -> Callable[[Any, Any], SafeString | str]:
    """A time of the row as `moment` shows it, sortable."""

    @display(description=description, ordering=field)
    def column(self: Any, row: Any) -> SafeString | str:
        return moment(getattr(row, field))

    return column


@display(description=_("event"), ordering="event")
def event_column(self: Any, row: Any) -> SafeString:
    """The row's event, on one line."""
    return clipped(row.event, 24)


def stock_bar(*, sold: int, held: int, capacity: int) -> SafeString:
    """Sold, held and free as one bar, with the numbers in words beside it."""
    whole = max(capacity, 1)
    return render_to_string(
        "admin/stock_bar.html",
        {
            "sold": sold,
            "held": held,
            "capacity": capacity,
            "free": capacity - sold - held,
            "sold_percent": f"{100 * sold / whole:.1f}",
            "held_percent": f"{100 * held / whole:.1f}",
        },
    )


def use_bar(*, used: int, limit: int | None) -> SafeString:
    """How much of a limit is used up, as a bar and in words; without a limit only in words."""
    percent = f"{min(100.0, 100 * used / limit):.1f}" if limit else "100" if limit == 0 else None
    return render_to_string("admin/use_bar.html", {"used": used, "limit": limit, "percent": percent})


def timeline(changes: Iterable[Any]) -> SafeString:
    """Status changes, of whatever app, in the order in which they happened."""
    ordered: list[tuple[datetime, int, Any]] = sorted((change.at, change.pk, change) for change in changes)
    return render_to_string("admin/timeline.html", {"changes": [change for _at, _pk, change in ordered]})
