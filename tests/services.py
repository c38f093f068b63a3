"""A pytest plugin, loaded before Django reads its settings: PostgreSQL and Valkey of our own, on free ports.

Set DATABASE_URL and REDIS_URL to use others. Under pytest-xdist the main process starts them and the workers inherit
the addresses; each worker has a test database of its own, made by pytest-django.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from deploy.local.services import EmbeddedPostgres, EmbeddedValkey

_started: list[EmbeddedPostgres | EmbeddedValkey] = []
_folders: list[Path] = []


def _start() -> None:
    defaults = {
        "SECRET_KEY": "a secret key of the test suite",
        "DEBUG": "on",  # static files without collecting; pytest-django switches DEBUG itself off
        "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
        "PUBLIC_URL": "http://testserver",
        "STRIPE_SECRET_KEY": "sk_test_offline",
        "STRIPE_PUBLISHABLE_KEY": "pk_test_offline",
        "STRIPE_WEBHOOK_SECRETS": "whsec_of_the_tests,whsec_the_next_one",
        "STRIPE_API_BASE": "http://127.0.0.1:9",  # nobody; tests that talk to Stripe bring the offline one
        "STRIPE_JS_URL": "http://127.0.0.1:9/v3/stripe.js",
        "STRIPE_SHORTEST_WAIT_SECONDS": "0.02",  # between tries: nobody here gains by waiting
        "STRIPE_LONGEST_WAIT_SECONDS": "0.1",
        "SLOW_PAYMENT_DAYS": "0",  # the tests' events are tomorrow
        "RATE_LIMITS": "off",  # all tests come from one address; those of the limits switch them on
        "LOG_LEVEL": "WARNING",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",  # Playwright's loop runs in the test's thread and never touches the database
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "DATABASE_URL" in os.environ and "REDIS_URL" in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="counterfoil-tests-"))
    _folders.append(folder)
    for variable, service in (
        ("DATABASE_URL", EmbeddedPostgres(folder / "postgres", durable=False)),
        ("REDIS_URL", EmbeddedValkey(folder / "valkey")),
    ):
        if variable not in os.environ:
            service.start()
            _started.append(service)
            os.environ[variable] = service.url


if "PYTEST_XDIST_WORKER" not in os.environ:
    _start()


def pytest_unconfigure(config: pytest.Config) -> None:
    while _started:
        _started.pop().stop()
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)
