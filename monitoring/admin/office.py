"""Signs of life, and who did what in the back office."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.utils.translation import gettext_lazy as _

from monitoring.models import Heartbeat
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.decorators import display


@admin.register(Heartbeat)
class HeartbeatAdmin(RecordAdmin):
    list_display = ["part", "at"]
    fields = ["part", "at"]


@admin.register(LogEntry)
class LogEntryAdmin(RecordAdmin):
    list_display = ["action_time", "user", "content_type", "object_repr", "message"]
    list_select_related = ["user", "content_type"]
    list_filter = ["action_flag"]
    search_fields = ["object_repr", "user__email"]
    fields = ["action_time", "user", "content_type", "object_id", "object_repr", "message"]

    @display(description=_("what was done"))
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message()
