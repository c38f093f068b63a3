"""Probes: is the process alive, can it serve, and how is the office doing in numbers?"""

import secrets

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring import health, metrics

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


@require_safe
@never_cache
def metrics_page(request: HttpRequest) -> HttpResponse:
    """`/metrics/` in Prometheus' text format, for whoever has METRICS_TOKEN; closed (404) while none is set."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
    is_known = secrets.compare_digest(given.strip().encode(), settings.METRICS_TOKEN.encode())
    if scheme.lower() != "bearer" or not is_known:
        return HttpResponse(
            "unauthorised", status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"}
        )
    return HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")
