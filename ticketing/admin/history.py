"""Status changes: each app has its table, all look alike, and nobody can write to them here."""

from unfold.decorators import display
from django.utils.translation import gettext_lazy as _
from typing import Any

from ticketing.admin.bases import RecordAdmin


class StatusChangeAdmin(RecordAdmin):
    list_display = ["at", "kind", "object_id", "move", "by", "why"]
    list_display_links = ["at"]
    list_filter = ["kind"]
    search_fields = ["object_id"]
    search_help_text = _("The object's id")
    fields = ["at", "kind", "object_id", "from_status", "to_status", "by", "why"]

    @display(description=_("move"))
    def move(self, change: Any) -> str:
        return f"{change.from_status} → {change.to_status}"
