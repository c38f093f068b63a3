"""The few calls that a rush consists of are answered before Django's handler; everything else goes on to it.

A handler (settings.FAST_PATHS) gets a `Call` and answers, or returns None: then Django answers, as it does for whatever
is not ordinary (another host, content type, encoding, a body that is not what the contract asks for). So a handler only
recognises; every rule and every refusal of a malformed request stays where it is.

The headers that the middlewares give every answer are not repeated here: they are kept from Django's own answer to the
first call of each kind, which is why that one always goes on to Django.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import Any

import structlog
from django.conf import settings
from django.db import OperationalError, close_old_connections
from django.http.request import split_domain_port, validate_host
from django.utils.module_loading import import_string

from config import proxies, request_id
from config.logs import write_line
from config.problems import Problem, busy

logger = structlog.get_logger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

LONGEST_BODY = 65_536
# Said anew in each answer; the rest of Django's headers stand for all answers of a kind.
_TYPICAL = {200, 201, 304, 400, 409, 422, 429}
_OF_ONE_ANSWER = {
    "content-length",
    "content-type",
    "x-request-id",
    "expires",
    "etag",
    "retry-after",
    "idempotent-replayed",
}


@dataclass(frozen=True)
class Call:
    """An ordinary request of the JSON contract."""

    environ: Environ
    found: Mapping[str, str]  # the named groups of the path's pattern
    body: bytes

    def header(self, name: str) -> str | None:
        return self.environ.get(f"HTTP_{name.upper().replace('-', '_')}")

    @cached_property
    def base_url(self) -> str:
        return f"{_scheme(self.environ)}://{self.environ['HTTP_HOST']}"


@dataclass(frozen=True, slots=True)
class Answer:
    """`body`: encoded JSON; empty for 304."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Answer | None]


def as_json(status: int, content: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), headers or {})


class FastPath:
    """A WSGI application in front of `django`."""

    def __init__(self, django: Application, routes: Mapping[str, str]) -> None:
        self._django = django
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        for route, handler in routes.items():
            method, pattern = route.split(" ", 1)
            self._routes.append((method, re.compile(pattern), import_string(handler)))
        self._standing: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        for of_route, pattern, handler in self._routes:
            if of_route == method and (match := pattern.fullmatch(path)):
                if not _is_ordinary(environ):
                    break
                kind = (pattern.pattern, _scheme(environ))
                if (standing := self._standing.get(kind)) is None:
                    return self._django(environ, self._learning(kind, start_response))
                call = Call(environ, match.groupdict(), _body(environ))
                answer = self._answer(handler, call, method, path)
                if answer is None:
                    break
                headers = [
                    *standing,
                    *answer.headers.items(),
                    ("X-Request-ID", environ["COUNTERFOIL_REQUEST_ID"]),
                ]
                if answer.status != HTTPStatus.NOT_MODIFIED:
                    headers += [("Content-Type", "application/json"), ("Content-Length", str(len(answer.body)))]
                start_response(_STATUS_LINES[answer.status], headers)
                return [answer.body]
        return self._django(environ, start_response)

    def _learning(self, kind: tuple[str, str], start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if int(status[:3]) in _TYPICAL:
                kept = [(name, value) for name, value in headers if name.lower() not in _OF_ONE_ANSWER]
                self._standing[kind] = kept
            return start_response(status, headers, *more)

        return start

    def _answer(self, handler: Handler, call: Call, method: str, path: str) -> Answer | None:
        began = time.monotonic()
        request_id.begin(call.environ)
        try:
            answer = handler(call)
            if answer is None:
                return None
        except Problem as problem:
            answer = as_json(problem.status_code, problem.body, problem.headers)
        except OperationalError as error:
            too_busy = busy(error)
            answer = as_json(too_busy.status_code, too_busy.body, too_busy.headers)
        except Exception:
            logger.exception("fast path failed", path=path)
            body = {"code": "internal_error", "message": "Something went wrong on our side."}
            answer = as_json(500, {**body, "reference": call.environ["COUNTERFOIL_REQUEST_ID"]})
        finally:
            close_old_connections()
        if answer.status < HTTPStatus.BAD_REQUEST and request_id.is_quiet(path):
            return answer
        duration_ms = round((time.monotonic() - began) * 1000, 1)
        write_line(
            request_id.__name__,
            "request",
            method=method,
            path=path,
            status=answer.status,
            duration_ms=duration_ms,
            request_id=call.environ["COUNTERFOIL_REQUEST_ID"],
        )
        return answer


_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def _is_ordinary(environ: Environ) -> bool:
    if environ["REQUEST_METHOD"] != "GET":
        length = environ.get("CONTENT_LENGTH") or ""
        if environ.get("CONTENT_TYPE", "").split(";")[0].strip() != "application/json":
            return False
        if not length.isdecimal() or int(length) > LONGEST_BODY or "HTTP_TRANSFER_ENCODING" in environ:
            return False
    accepted = environ.get("HTTP_ACCEPT", "*/*")
    if "*/*" not in accepted and "application/json" not in accepted:
        return False
    if settings.SECURE_SSL_REDIRECT and _scheme(environ) != "https":
        return False
    return not environ.get("QUERY_STRING") and _is_our_host(environ.get("HTTP_HOST", ""))


@lru_cache(maxsize=256)
def _is_our_host(host: str) -> bool:
    domain, _port = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _scheme(environ: Environ) -> str:
    is_behind = settings.TRUSTED_PROXIES and proxies.is_trusted(
        environ.get("REMOTE_ADDR", ""), tuple(settings.TRUSTED_PROXIES)
    )
    if is_behind and "HTTP_X_FORWARDED_PROTO" in environ:
        return "https" if environ["HTTP_X_FORWARDED_PROTO"].split(",")[0].strip() == "https" else "http"
    return environ.get("wsgi.url_scheme", "http")


def _body(environ: Environ) -> bytes:
    """The body, which Django can still read after us."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if environ["REQUEST_METHOD"] == "GET" or not length.isdecimal():
        return b""
    body: bytes = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = BytesIO(body)
    return body
