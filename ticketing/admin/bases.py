"""What our admin pages have in common: cheap lists, read-only records, and times in the event's own zone."""

from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold import admin as unfold
from unfold.dataclasses import UnfoldAction


class OfficeAdmin(unfold.ModelAdmin):
    """Lists that stay quick with many rows. An action may need the permission `act`: to change this kind of row."""

    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = True
    warn_unsaved_form = True
    # Which of `actions_detail` a row offers, by its status; an action that is not listed here is always offered.
    offered_in_status: dict[str, tuple[str, ...]] = {}

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[UnfoldAction]:
        allowed = super().get_actions_detail(request, object_id)
        if not self.offered_in_status:
            return allowed
        status = self.model._default_manager.filter(pk=object_id).values_list("status", flat=True).first()
        return [action for action in allowed if self._is_offered(action, status)]

    def _is_offered(self, action: UnfoldAction, status: str | None) -> bool:
        statuses = self.offered_in_status.get(action.method.original_function_name)
        return statuses is None or status in statuses


class RecordAdmin(OfficeAdmin):
    """A record that only domain functions write: staff may look, search and use the named actions."""

    view_on_site: Any = False
    warn_unsaved_form = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return flatten_fieldsets(self.fieldsets) if self.fieldsets else self.fields or ()


class RecordInline(unfold.TabularInline):
    """Rows of a record below their owner: never added, changed or deleted here. `fields` may name methods."""

    extra = 0
    max_num = 0
    can_delete = False
    hide_title = True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return self.fields or ()


class InTheEventsTimeZone(unfold.ModelAdmin):
    """Forms whose times are typed and shown as the event's own clocks show them, and that say so."""

    change_form_before_template = "admin/event_times.html"

    def zone_name(self, request: HttpRequest, object_id: str | None) -> str | None:
        """The zone of the event that this form is about; None when it is not known yet, and where nobody says."""
        return None

    def changeform_view(self, request: HttpRequest, object_id: Any = None, *args: Any, **kwargs: Any) -> HttpResponse:
        zone = self.zone_name(request, object_id)
        if zone is None or zone not in available_timezones():
            return super().changeform_view(request, object_id, *args, **kwargs)
        with timezone.override(ZoneInfo(zone)):
            response = super().changeform_view(request, object_id, *args, **kwargs)
            if isinstance(response, TemplateResponse):
                response.render()  # now, while the zone is the event's
        return response


def first(rows: QuerySet, column: str) -> Any:
    """The column of the first row; None without one, or when the lookup's value was no key at all."""
    return rows.values_list(column, flat=True).first()
