"""One id per request: taken from a well-formed `X-Request-ID`, else made; bound to every log line; in every answer.

django_structlog passes the bound id on to Celery tasks, so that one id follows a purchase from browser to worker.
"""

import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse

logger = structlog.get_logger(__name__)

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = re.compile(
    r"/livez/|/readyz/|/static/.*|.*/availability/"
)  # probes, files and polling pages would drown the rest


class RequestIdMiddleware:
    """Outermost, so that even an answer made by another middleware carries the id. Writes one log line a request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = begin(request.META)
        began = time.monotonic()
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        log(request.method or "", request.path, response.status_code, began=began)
        return response


def begin(meta: dict[str, Any]) -> str:
    """The id of the request that begins, noted in its WSGI environment and bound to this thread's log lines."""
    given = meta.get("HTTP_X_REQUEST_ID", "")
    request_id = given if _WELL_FORMED.fullmatch(given) else str(uuid.uuid4())
    meta["COUNTERFOIL_REQUEST_ID"] = request_id
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def is_quiet(path: str) -> bool:
    """Whether a success there is not worth a line."""
    return _QUIET.fullmatch(path) is not None


def log(method: str, path: str, status: int, *, began: float) -> None:
    """One line for the request that ends; `began` by the monotonic clock."""
    if is_quiet(path) and status < HTTPStatus.BAD_REQUEST:
        return
    duration_ms = round((time.monotonic() - began) * 1000, 1)
    # Without the query string: it may hold an order's secret. Secrets inside paths are hidden by config.logs.
    logger.info("request", method=method, path=path[:512], status=status, duration_ms=duration_ms)


def of(request: HttpRequest) -> str:
    """The id of this request."""
    return request.META.get("COUNTERFOIL_REQUEST_ID", "")
