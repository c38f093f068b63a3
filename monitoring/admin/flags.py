"""What staff may switch off while the office runs. The code knows the names, so there are none to add or delete."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from waffle.models import Switch

from ticketing.admin.bases import OfficeAdmin


@admin.register(Switch)
class SwitchAdmin(OfficeAdmin):
    list_display = ["name", "active", "note", "modified"]
    search_fields = ["name", "note"]
    ordering = ["name"]
    fields = ["name", "note", "active", "modified"]
    readonly_fields = ["name", "note", "modified"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
