"""Errors of the JSON contract: `{"code": "sold_out", "message": "<for people>", ...}` with stable codes."""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from config.dates import wait_in_words
from config.rate_limits import RateLimited

logger = structlog.get_logger(__name__)


class Problem(exceptions.APIException):
    """An answer other than success: raise it from a view with its status, code, message and further fields."""

    def __init__(
        self, status_code: int, code: str, message: Any, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail=str(message), code=code)
        self.status_code = status_code
        self.headers = headers or {}
        self.body = {"code": code, "message": str(message), **more}


def busy(error: OperationalError) -> Problem:
    """The answer where the database had no time for a request; logged, because staff should know."""
    logger.error("database busy", exc_info=error)
    message = _("Very many people are here at this moment. Please try again.")
    return Problem(503, "busy", message, headers={"Retry-After": "1"})


def rate_limited(refusal: RateLimited) -> Problem:
    """429 with `Retry-After`."""
    return Problem(429, "rate_limited", wait_message(refusal), headers={"Retry-After": str(refusal.retry_after)})


def wait_message(refusal: RateLimited) -> str:
    """Why somebody is kept waiting, and for how long."""
    if refusal.is_everybody:
        message = _("Very many people are here at this moment. Please try again in %(wait)s.")
    else:
        message = _("That was too often in a short time. Please try again in %(wait)s.")
    return message % {"wait": wait_in_words(refusal.retry_after)}


_CODES = {
    status.HTTP_400_BAD_REQUEST: "invalid",
    status.HTTP_401_UNAUTHORIZED: "not_authenticated",
    status.HTTP_403_FORBIDDEN: "forbidden",
    status.HTTP_404_NOT_FOUND: "not_found",
    status.HTTP_405_METHOD_NOT_ALLOWED: "method_not_allowed",
    status.HTTP_406_NOT_ACCEPTABLE: "not_acceptable",
    status.HTTP_415_UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    status.HTTP_429_TOO_MANY_REQUESTS: "rate_limited",
}


def answer_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Django REST framework's EXCEPTION_HANDLER: every refusal in the contract's shape; unexpected ones stay a 500."""
    if isinstance(error, Problem):
        return Response(error.body, status=error.status_code, headers=error.headers)
    if isinstance(error, exceptions.ValidationError):
        return Response({"code": "invalid", "message": _first(error.detail), "fields": error.detail}, status=400)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, OperationalError):  # a lock waited for too long, no free connection, the database restarting
        error = busy(error)
        return Response(error.body, status=error.status_code, headers=error.headers)
    if isinstance(error, RateLimited):
        problem = rate_limited(error)
        return Response(problem.body, status=problem.status_code, headers=problem.headers)
    response = exception_handler(error, context)
    if response is not None and isinstance(error, exceptions.APIException):
        code = _CODES.get(response.status_code, "error")
        response.data = {"code": code, "message": str(error.detail)}
        if isinstance(error, exceptions.ParseError):
            response.data["fields"] = {}
    return response


def _first(detail: Any) -> str:
    """The first message in a nested structure of field errors, for people who read only `message`."""
    while isinstance(detail, (dict, list)) and detail:
        if isinstance(detail, dict):
            name, detail = next(iter(detail.items()))
            if isinstance(detail, list) and detail and isinstance(detail[0], str):
                return f"{name}: {detail[0]}"
        else:
            detail = next((entry for entry in detail if entry), "")
    return str(detail) if detail else "The request is not valid."
