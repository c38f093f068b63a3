"""Probes: is the process alive, and can it serve?"""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring import health

ESSENTIAL = {"database", "migrations"}


@require_safe
@never_cache
def livez(request: HttpRequest) -> HttpResponse:
    """Touches nothing: it only proves that the process answers."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """503 only when buyers cannot be served; `?strict=1` makes any failed check a 503."""
    found = health.checks()
    failed = {name for name, check in found.items() if not check.is_ok}
    is_down = bool(failed & ESSENTIAL) or (bool(failed) and request.GET.get("strict") == "1")
    body = {
        "status": "degraded" if failed else "ok",
        "checks": {name: {"ok": check.is_ok, "detail": check.detail} for name, check in found.items()},
    }
    return JsonResponse(body, status=503 if is_down else 200)
