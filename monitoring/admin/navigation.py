"""The side bar: what staff look for, grouped as they think of it, without what they may not see."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

# Title, then (title, icon, app_label, model_name).
GROUPS = [
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
            (_("Orders"), "receipt_long", "reservations", "order"),
            (_("Reservations"), "hourglass_top", "reservations", "reservation"),
            (_("Tickets"), "confirmation_number", "ticketing", "ticket"),
        ],
    ),
    (
        _("Money"),
        [
            (_("Payments"), "credit_card", "payments", "payment"),
            (_("Webhook events"), "webhook", "payments", "webhookevent"),
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
            (_("Signs of life"), "monitor_heart", "monitoring", "heartbeat"),
            (_("Done by staff"), "history", "admin", "logentry"),
        ],
    ),
]


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """For unfold's SIDEBAR.navigation."""
    start = {"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}
    return [{"title": None, "items": [start]}, *(_group(request, title, links) for title, links in GROUPS)]


def _group(request: HttpRequest, title: Any, links: list[tuple[Any, str, str, str]]) -> dict[str, Any]:
    return {
        "title": title,
        "separator": True,
        "items": [
            {"title": text, "icon": icon, "link": reverse(f"admin:{app}_{model}_changelist")}
            for text, icon, app, model in links
            if request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
        ],
    }


def favicon(request: HttpRequest) -> str:
    """The shop's own sign, also in the tabs of staff."""
    return static("counterfoil/favicon.svg")
