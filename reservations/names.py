"""Names that buyers give: they are printed on tickets and in letters that we send to whatever address was typed."""

import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LINK = re.compile(r"://|\bwww\.", re.IGNORECASE)


def validate_name(name: str) -> None:
    """Refuses line breaks, other control characters, and links: a free ticket must not carry anyone's advertisement."""
    if _CONTROL.search(name):
        raise ValidationError(_("A name has no line breaks or control characters."))
    if _LINK.search(name):
        raise ValidationError(_("A name has no web address in it."))
