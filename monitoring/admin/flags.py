"""Feature flags: what staff may switch off, or on for a share, while the office runs (config.features).

The code knows the names, so there are none to add or delete.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminRadioSelectWidget
from waffle.models import Flag

from config import features
from ticketing.admin.bases import OfficeAdmin
from ticketing.admin.columns import BAD, GOOD, WAITING, moment_column
from ticketing.admin.decorators import display

EVERYONE, SHARE, NOBODY = "everyone", "share", "nobody"
ON_FOR = [(EVERYONE, _("everyone")), (SHARE, _("a share")), (NOBODY, _("nobody"))]
_CHOSEN = {EVERYONE: True, SHARE: None, NOBODY: False}


class FlagForm(forms.ModelForm):
    on_for = forms.ChoiceField(
        label=_("On for"),
        choices=ON_FOR,
        widget=UnfoldAdminRadioSelectWidget(),
        help_text=_("Every process knows within ten seconds."),
    )
    percent = forms.DecimalField(
        label=_("Share in percent"),
        required=False,
        min_value=0.1,
        max_value=99.9,
        decimal_places=1,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text=_("Only for a share. Whoever is in it stays in it while it grows."),
    )

    class Meta:
        model = Flag
        fields = ["percent"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["on_for"] = next(name for name, value in _CHOSEN.items() if value is self.instance.everyone)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("on_for") == SHARE and given.get("percent") is None and "percent" not in self.errors:
            self.add_error("percent", _now("How large a share, between 0.1 and 99.9 %?"))
        return given

    def save(self, commit: bool = True) -> Any:
        self.instance.everyone = _CHOSEN[self.cleaned_data["on_for"]]
        return super().save(commit)


@admin.register(Flag)
class FlagAdmin(OfficeAdmin):
    form = FlagForm
    list_display = ["name", "on_for_label", "does", "fallback", "changed"]
    search_fields = ["name", "note"]
    ordering = ["name"]
    fields = ["name", "does", "fallback", "on_for", "percent", "modified"]
    readonly_fields = ["name", "does", "fallback", "modified"]

    changed = moment_column("modified", _("changed"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description=_("on for"), label={EVERYONE: GOOD, SHARE: WAITING, NOBODY: BAD})
    def on_for_label(self, flag: Flag) -> tuple[str, Any]:
        if flag.everyone is None and flag.percent:
            return SHARE, f"{flag.percent.normalize():f} %"
        return (EVERYONE, _("everyone")) if flag.everyone else (NOBODY, _("nobody"))

    @display(description=_("what it does"))
    def does(self, flag: Flag) -> SafeString:
        feature = features.REGISTRY.get(flag.name)
        return _sentence(feature.does if feature else flag.note)

    @display(description=_("while it is off"))
    def fallback(self, flag: Flag) -> SafeString:
        feature = features.REGISTRY.get(flag.name)
        return _sentence(feature.fallback if feature else _now("nothing: this version does not know it"))


def _sentence(text: str) -> SafeString:
    """As wide as it is easy to read; it wraps instead of widening the list."""
    return format_html(
        '<span style="display: inline-block; min-width: 14rem; white-space: normal">{}</span>',
        text[:1].upper() + text[1:],
    )
