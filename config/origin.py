"""The check of forms on pages that carry no cookie and hence no CSRF token (the catalogue's hold form).

Nothing is authenticated there, so forgery gains little; still, another site must not be able to take stock in the name
of its visitors. Browsers say where a form came from: Sec-Fetch-Site, and Origin on every POST.
"""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest


def is_same_origin(request: HttpRequest) -> bool:
    """True for our own forms, and for clients that are no browser (neither header: nobody's cookies are at stake)."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc in {request.get_host(), urlsplit(settings.PUBLIC_URL).netloc}
