"""Status changes: each app has its table, all look alike, and nobody can write to them here."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import moment_column
from ticketing.admin.decorators import display


class StatusChangeAdmin(RecordAdmin):
    list_display = ["when", "kind", "object_id", "move", "by", "why"]
    list_display_links = ["when"]
    list_filter = ["kind"]
    search_fields = ["object_id"]
    search_help_text = _("The object's id")
    fields = ["at", "kind", "object_id", "from_status", "to_status", "by", "why"]

    when = moment_column("at", _("at"))

    @display(description=_("move"))
    def move(self, change: Any) -> str:
        return f"{change.from_status} → {change.to_status}"
