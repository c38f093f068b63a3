"""The web process. Granian serves `config.wsgi:application`."""

import os

# The database pool belongs to the web process alone: Celery closes its connections after each task.
os.environ.setdefault("COUNTERFOIL_PROCESS", "web")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

LONGEST_CHUNKED_BODY = 2_621_440  # bytes: Django's own DATA_UPLOAD_MAX_MEMORY_SIZE

_django = get_wsgi_application()

from config.fast_path import FastPath  # noqa: E402 - its handlers need the applications loaded

_office = FastPath(_django, settings.FAST_PATHS)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Django reads as many bytes as Content-Length says; a chunked request has none, so its body is counted here first."""
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and not environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(LONGEST_CHUNKED_BODY + 1)
        environ["wsgi.input"] = BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        return _django(environ, start_response)
    return _office(environ, start_response)
