"""The side bar: what staff look for, grouped as they think of it, without what they may not see."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

# Title, then (title, icon, app_label, model_name), and for what is not that model's list, the page's name.
GROUPS: list[tuple[Any, list[tuple[Any, ...]]]] = [
    (
        _("Catalogue"),
        [
            (_("Events"), "event", "ticketing", "event"),
            (_("Products"), "sell", "ticketing", "product"),
            (_("Quotas"), "stacked_bar_chart", "ticketing", "quota"),
            (_("Slots"), "schedule", "ticketing", "slot"),
            (_("Organisers"), "groups", "ticketing", "organiser"),
        ],
    ),
    (
        _("Sales"),
        [
            (_("Holds now"), "timer", "reservations", "reservation", "dashboard"),
            (_("Orders"), "receipt_long", "reservations", "order"),
            (_("Reservations"), "hourglass_top", "reservations", "reservation"),
            (_("Promo codes"), "loyalty", "reservations", "promocode"),
            (_("Tickets"), "confirmation_number", "ticketing", "ticket"),
        ],
    ),
    (
        _("Money"),
        [
            (_("Payments"), "credit_card", "payments", "payment"),
            (_("Refunds"), "currency_exchange", "payments", "refund"),
            (_("Webhook events"), "webhook", "payments", "webhookevent"),
            (_("Circuit breaker"), "electrical_services", "payments", "breaker"),
        ],
    ),
    (_("Mail"), [(_("Outgoing e-mails"), "mail", "ticketing", "outgoingemail")]),
    (
        _("Office"),
        [
            (_("Users"), "person", "ticketing", "user"),
            (_("Groups"), "admin_panel_settings", "auth", "group"),
            (_("API tokens"), "key", "knox", "authtoken"),
            (_("Schedule"), "event_repeat", "django_celery_beat", "periodictask"),
            (_("Feature flags"), "toggle_on", "waffle", "flag"),
            (_("Signs of life"), "monitor_heart", "monitoring", "heartbeat"),
            (_("Clean-ups"), "cleaning_services", "reservations", "sweeprun"),
            (_("Rate limit hits"), "speed", "reservations", "limithit"),
            (_("Repeats and refusals"), "repeat", "reservations", "tally"),
            (_("Done by staff"), "history", "admin", "logentry"),
        ],
    ),
]

_PAGES = [link for _title, links in GROUPS for link in links if len(link) == 5]


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """For unfold's SIDEBAR.navigation."""
    start = {"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}
    return [{"title": None, "items": [start]}, *(_group(request, title, links) for title, links in GROUPS)]


def _group(request: HttpRequest, title: Any, links: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    items = [
        _item(request, *link)
        for link in links
        if request.user.has_perm(f"{link[2]}.view_{link[3]}") or request.user.has_perm(f"{link[2]}.change_{link[3]}")
    ]
    return {"title": title, "separator": True, "items": items}


def _item(
    request: HttpRequest, title: Any, icon: str, app: str, model: str, page: str = "changelist"
) -> dict[str, Any]:
    """The theme marks every link that the page's address begins with; of two such, only the longer is meant."""
    link = reverse(f"admin:{app}_{model}_{page}")
    pages = (reverse(f"admin:{app}_{model}_{named}") for _t, _i, *of, named in _PAGES if of == [app, model])
    is_under = request.path.startswith(link) and not any(
        request.path.startswith(other) for other in pages if len(other) > len(link)
    )
    return {"title": title, "icon": icon, "link": link, "active": is_under}


def favicon(request: HttpRequest) -> str:
    """The shop's own sign, also in the tabs of staff."""
    return static("counterfoil/favicon.svg")
