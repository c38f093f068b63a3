"""The reservation dashboard: what is held now and until when, what became of it, what buyers wanted in vain; and what
staff may do about it. Every button leads to a question with a form of its own, so all of it works without scripts;
config/static/counterfoil/reservation-dashboard.js keeps the page fresh and shows the questions in a dialog.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from babel.dates import format_datetime
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from config.database import database_now
from config.dates import clock_time
from reservations import sweeping
from reservations.admin import deeds, figures
from reservations.admin.charts import Series, chart
from reservations.models import Reservation
from ticketing.admin import selling
from ticketing.admin.actions import carry_out, staff_name
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import list_url
from ticketing.models import Event, Product

NAME = "reservations_reservation_dashboard"
HELD = (
    Series("taken", gettext_lazy("taken")),
    Series("confirmed", gettext_lazy("paid"), stack=1),
    Series("released", gettext_lazy("released"), stack=1),
    Series("expired", gettext_lazy("expired"), stack=1),
)
REFUSED = (Series("refused", gettext_lazy("requests")), Series("units_refused", gettext_lazy("units"), stack=1))


def urls(page: RecordAdmin) -> list[URLPattern]:
    """Below the list of reservations; each for staff only, and with the permission that it needs."""

    def at(address: str, view: Callable[..., HttpResponse], name: str = "") -> URLPattern:
        def of_page(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            return view(page, request, **kwargs)

        return path(f"dashboard/{address}", page.admin_site.admin_view(of_page), name=NAME + name)

    return [
        at("", show),
        at("release-expired/", release_expired, "_release_expired"),
        at("<uuid:pk>/extend/", extend, "_extend"),
        at("<uuid:pk>/release/", release, "_release"),
        at("products/<int:pk>/stop/", stop_product, "_stop_product"),
        at("products/<int:pk>/resume/", resume_product, "_resume_product"),
        at("events/<int:pk>/stop/", stop_event, "_stop_event"),
        at("events/<int:pk>/resume/", resume_event, "_resume_event"),
    ]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the person chose to look at; it stays chosen through questions and answers."""

    event_id: int | None
    period: figures.Period

    @classmethod
    def of(cls, request: HttpRequest) -> "Choice":
        event = request.GET.get("event", "")
        period = figures.PERIODS.get(request.GET.get("period", ""), figures.PERIODS["day"])
        return cls(int(event) if event.isdecimal() and len(event) < 18 else None, period)

    def query(self, **more: Any) -> str:
        return urlencode({"event": self.event_id or "", "period": self.period.name, **more})

    @property
    def address(self) -> str:
        return f"{reverse(f'admin:{NAME}')}?{self.query()}"


@dataclass(frozen=True, slots=True)
class Headline:
    """One number, large. `level` colours it: "warning", "bad", or not at all."""

    title: str
    value: str
    note: str
    level: str = ""


@dataclass(frozen=True, slots=True)
class Button:
    text: str
    name: str = "confirmed"
    value: str = "yes"
    is_grave: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """Asked before anything is done; each button is an answer that does it."""

    title: str
    text: str
    buttons: list[Button]
    about: str = ""


def show(page: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """The whole page, or with `?part=main` only what changes."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    context = _numbers(page, request, Choice.of(request))
    if request.GET.get("part") == "main":
        return TemplateResponse(request, "admin/reservation_dashboard_main.html", context)
    context |= page.admin_site.each_context(request) | {"title": _("Reservation dashboard")}
    return TemplateResponse(request, "admin/reservation_dashboard.html", context)


def _numbers(page: RecordAdmin, request: HttpRequest, choice: Choice) -> dict[str, Any]:
    now = database_now()
    live = figures.live_by_event(now)
    offered = figures.events_offered(live, now)
    event = next((one for one in offered if one.pk == choice.event_id), None)
    if event is None and choice.event_id is not None:
        event = get_object_or_404(Event, pk=choice.event_id)
        offered.append(event)
    zone = ZoneInfo(event.time_zone if event else "UTC")
    start = choice.period.start(now, zone)
    history = figures.history(choice.period, start, event)
    shown = [event] if event else figures.busiest(offered, live)
    total = live.get(event.pk, figures.Live()) if event else figures.added_up(live)
    city = zone.key.rpartition("/")[2].replace("_", " ")
    may: Callable[[str], bool] = request.user.has_perm
    return {
        "now": now,
        "clock": f"{clock_time(now, zone.key, seconds=True)} {city}",
        "zone": city,
        "since": format_datetime(start.astimezone(zone), "EEE d MMM, HH:mm", locale="en_GB"),
        "choice": choice,
        "query": choice.query(),
        "events": offered,
        "event": event,
        "periods": figures.PERIODS.values(),
        "headlines": list(_headlines(total, history)),
        "events_now": figures.events_now(shown, live, now),
        "events_left_out": len(offered) - len(shown) if event is None else 0,
        "holds": figures.soonest(now, event),
        "live": total,
        "over": sweeping.holds_over(),
        "soon_at": now + figures.SOON,
        "all_holds": list_url("reservations_reservation", **_of(event), status__exact=Reservation.Status.ACTIVE),
        "held_chart": chart(history.buckets, HELD, step=choice.period.step, zone=zone),
        "refused_chart": chart(history.buckets, REFUSED, step=choice.period.step, zone=zone),
        "history": history,
        "top_conflicts": figures.top_conflicts(start, event),
        "conflicts_url": list_url("reservations_conflict"),
        "limit_hits": figures.limit_hits(start) if may("reservations.view_limithit") else None,
        "limit_hits_url": list_url("reservations_limithit"),
        "may_act": page.has_act_permission(request),
        "may_sell": selling.may_stop_selling(request),
        "may_see_orders": may("reservations.view_order"),
        "may_see_events": may("ticketing.view_event"),
        "may_see_conflicts": may("reservations.view_conflict"),
    }


def _of(event: Event | None) -> dict[str, Any]:
    return {"event__id__exact": event.pk} if event else {}


def _headlines(live: figures.Live, history: figures.History) -> Iterator[Headline]:
    yield Headline(_("Live holds"), str(live.holds), _("keep stock from other buyers"))
    yield Headline(_("Units held"), str(live.units), _("in those holds"))
    soon = _("within 2 minutes") if live.soon else _("none within 2 minutes")
    yield Headline(_("Expiring soon"), str(live.soon), soon, "warning" if live.soon else "")
    yield Headline(_("Ordered"), str(live.ordered), _("of them, awaiting payment"))
    conversion, confirmed = history.conversion, history.total("confirmed")
    ended = history.total("released") + history.total("expired")
    yield Headline(
        _("Conversion"),
        "–" if conversion is None else f"{conversion:.0%}",
        _("%(paid)s paid, %(ended)s ended unpaid") % {"paid": confirmed, "ended": ended},
    )
    refused, units = history.total("refused"), history.total("units_refused")
    note = ngettext("%(n)s unit wanted in vain", "%(n)s units wanted in vain", units) % {"n": units}
    yield Headline(
        _("Conflicts"), str(refused), note if refused else _("nobody was turned away"), "bad" if refused else ""
    )


def extend(page: RecordAdmin, request: HttpRequest, *, pk: uuid.UUID) -> HttpResponse:
    _require(page.has_act_permission(request))
    reservation = get_object_or_404(Reservation.objects.select_related("event"), pk=pk)
    if request.method == "POST":
        typed = request.POST.get("minutes", "")
        minutes = int(typed) if typed in {str(choice) for choice in deeds.EXTENSIONS_MINUTES} else 0
        return _done(page, request, reservation, lambda row: deeds.extend(row, request, minutes=minutes))
    buttons = [
        Button(_("%(n)s minutes") % {"n": minutes}, name="minutes", value=str(minutes))
        for minutes in deeds.EXTENSIONS_MINUTES
    ]
    text = _("The buyer keeps what is held for longer, and keeps their own extension too.")
    return _asked(page, request, Question(_("Extend this hold by how long?"), text, buttons, _in_words(reservation)))


def release(page: RecordAdmin, request: HttpRequest, *, pk: uuid.UUID) -> HttpResponse:
    _require(page.has_act_permission(request))
    reservation = get_object_or_404(Reservation.objects.select_related("event"), pk=pk)
    if request.method == "POST":
        return _done(page, request, reservation, lambda row: deeds.release(row, request))
    text = _("Its buyer loses what is held, and others can buy it at once.")
    question = Question(_("Release this hold?"), text, [Button(_("Release"), is_grave=True)], _in_words(reservation))
    return _asked(page, request, question)


def release_expired(page: RecordAdmin, request: HttpRequest) -> HttpResponse:
    _require(page.has_act_permission(request))
    if request.method == "POST":
        by = staff_name(request)
        released = sweeping.sweep_expired_holds(by=by, for_seconds=sweeping.ENDPOINT_SECONDS)
        text = ngettext("%(n)s expired hold released.", "%(n)s expired holds released.", released)
        messages.success(request, text % {"n": released})
        return HttpResponseRedirect(Choice.of(request).address)
    text = _(
        "Tidies up holds past their time, as the schedule does each minute. They keep no stock from buyers, tidied or not."
    )
    return _asked(page, request, Question(_("Release expired holds now?"), text, [Button(_("Release them"))]))


def stop_product(page: RecordAdmin, request: HttpRequest, *, pk: int) -> HttpResponse:
    return _sell(page, request, get_object_or_404(Product, pk=pk), selling.stop)


def resume_product(page: RecordAdmin, request: HttpRequest, *, pk: int) -> HttpResponse:
    return _sell(page, request, get_object_or_404(Product, pk=pk), selling.resume)


def stop_event(page: RecordAdmin, request: HttpRequest, *, pk: int) -> HttpResponse:
    return _sell(page, request, get_object_or_404(Event, pk=pk), selling.stop_everything)


def resume_event(page: RecordAdmin, request: HttpRequest, *, pk: int) -> HttpResponse:
    return _sell(page, request, get_object_or_404(Event, pk=pk), selling.resume_everything)


def _sell(page: RecordAdmin, request: HttpRequest, row: Product | Event, deed: Callable[[Any], str]) -> HttpResponse:
    """Stops or resumes the sale of one product, or of everything of one event."""
    _require(page.has_view_permission(request) and selling.may_stop_selling(request))
    if request.method == "POST":
        return _done(page, request, row, deed)
    if deed in (selling.stop, selling.stop_everything):
        title = _("Stop selling %(what)s?") if isinstance(row, Product) else _("Stop selling everything of %(what)s?")
        text = _("At once, for new holds. The capacity, live holds and orders stay as they are.")
        button = Button(_("Stop selling"), is_grave=True)
    else:
        title = (
            _("Resume selling %(what)s?") if isinstance(row, Product) else _("Resume selling everything of %(what)s?")
        )
        text = _("At once, within its sale times and stock.")
        button = Button(_("Resume selling"))
    return _asked(page, request, Question(title % {"what": row}, text, [button]))


def _require(is_allowed: bool) -> None:
    if not is_allowed:
        raise PermissionDenied


def _asked(page: RecordAdmin, request: HttpRequest, question: Question) -> HttpResponse:
    """The question on a page of its own, or with `?part=main` alone, for the dialog."""
    choice = Choice.of(request)
    context = {"question": question, "back": choice.address, "form_action": f"{request.path}?{choice.query()}"}
    if request.GET.get("part") == "main":
        return TemplateResponse(request, "admin/reservation_dashboard_question.html", context)
    context |= page.admin_site.each_context(request) | {"title": _("Are you sure?"), "opts": page.opts}
    return TemplateResponse(request, "admin/reservation_dashboard_ask.html", context)


def _done(page: RecordAdmin, request: HttpRequest, row: Model, deed: Callable[[Any], str]) -> HttpResponse:
    carry_out(page, request, [row], deed)
    return HttpResponseRedirect(Choice.of(request).address)


def _in_words(reservation: Reservation) -> str:
    lines = ", ".join(str(line) for line in reservation.lines.select_related("product"))
    return f"{reservation.event}: {lines}"
