"""Actions of staff: one domain call per row, and an answer in words for each, whether it was done or refused."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from unfold.admin import ModelAdmin
from unfold.forms import BaseDialogForm

from config.state_machine import MoveRefused

# What speaks to Stripe may wait seconds for each row; a request must end before its proxy gives up.
AT_MOST_WITH_NETWORK = 20
NAMED_AT_MOST = 5


class Refused(Exception):
    """The domain said no; the message says why, for staff."""


def staff_name(request: HttpRequest) -> str:
    """How a history line names who did it."""
    return f"staff:{request.user.pk}"


def carry_out(
    model_admin: ModelAdmin,
    request: HttpRequest,
    rows: Iterable[Any],
    deed: Callable[[Any], str],
    *,
    at_most: int = 0,
    too_many: Any = None,
) -> None:
    """Does `deed` to each row; it returns what was done, in words, or raises Refused or MoveRefused.

    Each row succeeds or is refused by itself: one refusal does not keep the others from being done. More than `at_most`
    rows are not begun; `too_many` says why, with %(n)s.
    """
    chosen = list(rows[: at_most + 1] if at_most and isinstance(rows, QuerySet) else rows)
    if at_most and len(chosen) > at_most:
        text = too_many or _("Choose at most %(n)s at a time: each of them asks Stripe.")
        messages.warning(request, text % {"n": at_most})
        return
    done: list[tuple[Model, str]] = []
    refused: list[tuple[Model, str]] = []
    for row in chosen:
        try:
            done.append((row, deed(row)))
        except Refused as refusal:
            refused.append((row, str(refusal)))
        except MoveRefused:
            row.refresh_from_db(fields=["status"])
            refused.append(
                (row, _("It is %(status)s: that cannot be done now.") % {"status": row.get_status_display()})
            )
    _report(request, done)
    _report_refusals(request, refused)


def carry_out_one(
    model_admin: ModelAdmin, request: HttpRequest, object_id: Any, deed: Callable[[Any], str]
) -> HttpResponse:
    """The same for the row whose page is open, which is then shown again."""
    row = model_admin.get_object(request, str(object_id))
    if row is not None:
        carry_out(model_admin, request, [row], deed)
    opts = model_admin.opts
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[object_id])
    return HttpResponse(headers={"HX-Redirect": address})  # the dialogs are sent by htmx


def ask_first(
    model_admin: ModelAdmin, request: HttpRequest, rows: QuerySet, *, action: str, question: str, button: str
) -> TemplateResponse | None:
    """A page that names the rows and asks; None once the person has said yes."""
    if "confirmed" in request.POST:
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Are you sure?"),
        "opts": model_admin.opts,
        "rows": rows,
        "action": action,
        "question": question,
        "button": button,
        "action_checkbox_name": helpers.ACTION_CHECKBOX_NAME,
        "list_url": reverse(f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist"),
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


def dialog(title: Any, description: Any, button: Any, *, form: type[BaseDialogForm] | None = None) -> Any:
    """What unfold asks before it does an action on a row's own page; saying yes is a POST with its CSRF token.

    `form`: what must be filled in as well.
    """
    return {"title": title, "description": description, "form_class": form, "form_submit_text": button}


def edit_next(request: HttpRequest) -> None:
    """After adding, go to the new row's own page, unless the person asked for something else."""
    if "_addanother" not in request.POST and "_popup" not in request.POST:
        form = request.POST.copy()
        form["_continue"] = "1"
        request.POST = form  # type: ignore[assignment]


def _report(request: HttpRequest, done: list[tuple[Model, str]]) -> None:
    if not done:
        return
    for row, what in done:
        LogEntry.objects.log_actions(request.user.pk or 0, [row], CHANGE, change_message=what)
    if len(done) <= NAMED_AT_MOST:
        for row, what in done:
            messages.success(request, f"{row}: {what}")
    else:
        messages.success(request, _("Done: %(n)s.") % {"n": len(done)})


def _report_refusals(request: HttpRequest, refused: list[tuple[Model, str]]) -> None:
    """Row by row, or, where there are many, how many were refused for which reason."""
    if len(refused) <= NAMED_AT_MOST:
        for row, why in refused:
            messages.warning(request, f"{row}: {why}")
        return
    for why, count in Counter(why for _row, why in refused).most_common(NAMED_AT_MOST):
        messages.warning(request, _("Not done: %(n)s. Each: %(why)s") % {"n": count, "why": why})
