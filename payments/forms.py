from django import forms
from django.utils.translation import gettext_lazy as _

from reservations.names import validate_name


class DetailsForm(forms.Form):
    """Who buys: the tickets are made out to the name and mailed to the address."""

    name = forms.CharField(
        label=_("Name"),
        validators=[validate_name],
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "name", "autocapitalize": "words"}),
    )
    email = forms.EmailField(
        label=_("E-mail address"),
        max_length=254,
        help_text=_("Your tickets go there."),
        widget=forms.EmailInput(attrs={"autocomplete": "email", "inputmode": "email"}),
    )
