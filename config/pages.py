"""What all pages share: error pages with a reference, the test-mode notice, no caching of private pages."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from config import problems, request_id
from config.rate_limits import RateLimited

# Everything under these prefixes shows somebody's own things: the id or secret in the address is the authority.
_PRIVATE = ("/reservations/", "/orders/", "/tickets/", "/account/", "/api/v1/reservations/", "/api/v1/orders/")


class CacheRulesMiddleware:
    """`Cache-Control: no-store` on what only one person may see; no cookie on what everybody may share.

    Outside the session and CSRF middlewares: they answer even a malformed cookie with a new one.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(_PRIVATE):
            add_never_cache_headers(response)
        elif "public" in response.get("Cache-Control", ""):
            response.cookies.clear()
            _vary_not_by_cookie(response)
        return response


def _vary_not_by_cookie(response: HttpResponse) -> None:
    """Encodings, languages and the like still make different answers; cookies do not."""
    others = [
        name.strip() for name in response.get("Vary", "").split(",") if name.strip().lower() not in {"", "cookie"}
    ]
    if others:
        response["Vary"] = ", ".join(others)
    else:
        response.headers.pop("Vary", None)


def notices(request: HttpRequest) -> dict[str, Any]:
    """Template context: tells buyers when no real money can move."""
    is_test = settings.STRIPE_SECRET_KEY.startswith(("sk_test_", "rk_test_"))
    return {
        "test_mode_notice": _("Test mode: no real money moves here.") if is_test else "",
        "request_id": request_id.of(request),
    }


_MESSAGES = {400: "invalid", 403: "forbidden", 404: "not_found", 429: "rate_limited", 500: "internal_error"}


def _error(request: HttpRequest, status: int, template: str, message: str) -> HttpResponse:
    reference = request_id.of(request)
    if request.path.startswith(("/api/", "/webhooks/", "/maintenance/")):
        body = {"code": _MESSAGES[status], "message": message, "reference": reference}
        return JsonResponse(body, status=status)
    return HttpResponse(render_to_string(template, {"request_id": reference, "message": message}), status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, 400, "400.html", _("The request could not be understood."))


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, 403, "403.html", _("You may not do this."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _error(request, 403, "403_csrf.html", _("The form was too old or came from another site."))


def not_found(request: HttpRequest, exception: Exception | None = None, **address: str) -> HttpResponse:
    return _error(request, 404, "404.html", _("There is nothing here."))


def too_many_requests(request: HttpRequest, refusal: RateLimited) -> HttpResponse:
    message = problems.wait_message(refusal)
    response = _error(request, 429, "429.html", message)
    response["Retry-After"] = str(refusal.retry_after)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    return _error(request, 500, "500.html", _("Something went wrong on our side."))
