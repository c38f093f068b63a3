"""People: accounts, groups of permissions, and tokens for programs."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangosGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangosUserAdmin
from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from knox.admin import AuthTokenAdmin as KnoxsAuthTokenAdmin
from knox.models import get_token_model
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from ticketing.admin.bases import OfficeAdmin
from ticketing.admin.forms import choose_many
from ticketing.models import User

AuthToken = get_token_model()
ONLY_FOR_SUPERUSERS = ["is_superuser", "groups", "user_permissions"]


class PermissionsField(OfficeAdmin):
    """Permissions to be searched for; a plain list of them is wider than the page."""

    filter_horizontal: Any = []

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.related_model is Permission:
            choose_many(field, field.choices)
        return field


class NewUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ["email", "name"]


class UserForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


@admin.register(User)
class UserAdmin(PermissionsField, DjangosUserAdmin):
    """Staff who are no superusers can neither become one nor touch one."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["email", "name", "is_staff", "is_active", "joined_at", "last_login"]
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    autocomplete_fields = ["groups"]
    readonly_fields = ["joined_at", "last_login"]
    fieldsets = [
        (None, {"fields": ["email", "name", "password"]}),
        (
            _("Permissions"),
            {
                "fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"],
                "description": _("Staff see what their groups allow; superusers see and may do everything."),
            },
        ),
        (_("Times"), {"fields": [("joined_at", "last_login")]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "name", "usable_password", "password1", "password2"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        if request.user.is_superuser:
            return ["joined_at", "last_login"]
        return ["joined_at", "last_login", "is_staff", *ONLY_FOR_SUPERUSERS]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_above(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_above(request, obj)


def _is_above(request: HttpRequest, user: User | None) -> bool:
    return user is not None and user.is_superuser and not request.user.is_superuser


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(PermissionsField, DjangosGroupAdmin):  # type: ignore[misc]  # their signatures differ
    list_display = ["name"]

    # Whoever may change a group could give their own group everything.
    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


admin.site.unregister(AuthToken)


@admin.register(AuthToken)
class AuthTokenAdmin(KnoxsAuthTokenAdmin, OfficeAdmin):
    """The token itself is shown once, when it is made; we keep its digest. A token acts as its user, so only superusers
    make tokens for others.
    """

    list_display = ["user", "token_key", "created", "expiry"]
    list_select_related = ["user"]
    raw_id_fields: Any = []
    autocomplete_fields = ["user"]
    search_fields = ["token_key", "user__email"]
    fields = ["user", "expiry"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("user")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["user"] if obj else []

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = User.objects.filter(pk=request.user.pk or 0)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
