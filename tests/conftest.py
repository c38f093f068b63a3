"""Fixtures of the whole suite. Real parts everywhere: PostgreSQL, Valkey, workers, the Stripe SDK over HTTP, Chromium."""

import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from django.conf import settings
from django.db import connection, connections

from config.logs import logging_config
from payments import stripe_gateway
from tests.brokers import no_broker
from tests.browsing import launch
from tests.office import Office
from tests.stripe_sandbox.process import SandboxProcess


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Threads of a race may keep a connection until they are collected; PostgreSQL drops no database under them."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(autouse=True)
def _room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test marked `alone` needs the whole machine: those of the other workers wait until it is done."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    kind = fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH
    with (shared / "turnstile").open("w") as turnstile, (shared / "room").open("w") as room:
        fcntl.flock(turnstile, fcntl.LOCK_EX)  # who waits for the whole room lets nobody in meanwhile
        fcntl.flock(room, kind)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def _sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(_sandbox_process: SandboxProcess, settings) -> Iterator[SandboxProcess]:
    """The offline Stripe, empty, and the product in this process talking to it. No webhook is delivered by itself."""
    _sandbox_process.control.reset()
    settings.STRIPE_API_BASE = _sandbox_process.api_base
    settings.STRIPE_SECRET_KEY = _sandbox_process.secret_key
    settings.STRIPE_PUBLISHABLE_KEY = _sandbox_process.publishable_key
    stripe_gateway.calls.client.cache_clear()
    yield _sandbox_process
    stripe_gateway.calls.client.cache_clear()


@pytest.fixture(scope="session")
def _office_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    server, _slash, _name = os.environ["DATABASE_URL"].rpartition("/")
    name = f"office_{worker}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    folder = tmp_path_factory.mktemp("office")
    with Office(folder, database_url=f"{server}/{name}") as office:
        yield office
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def office(_office_process: Office, django_db_blocker) -> Iterator[Office]:
    """The running office; factories and queries in the test use its database. Nothing is rolled back: make your own event."""
    test_name = connection.settings_dict["NAME"]
    connections.close_all()
    connection.settings_dict["NAME"] = _office_process.database_url.rpartition("/")[2]
    with django_db_blocker.unblock():
        yield _office_process
        connections.close_all()
    connection.settings_dict["NAME"] = test_name
    _office_process.stripe.control.clear_faults()
    if _office_process.redis.child is None:
        _office_process.redis.start()
    for role in ("web", "worker", "beat"):
        if role not in _office_process.children:
            _office_process.start(role)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One Chromium for the session; tests open contexts of their own."""
    with launch() as chromium:
        yield chromium


@pytest.fixture
def shots() -> Path:
    """Where browser tests leave pictures of the pages they saw (SCREENSHOTS=folder keeps them)."""
    folder = Path(os.environ.get("SCREENSHOTS", "var/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def log_lines() -> Iterator:
    """A function that gives the log so far as production writes it: one JSON object a line."""
    formatter = logging_config(level="DEBUG", readable=False)["formatters"]["structured"]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(**{k: v for k, v in formatter.items() if k != "()"}))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    yield lambda: [json.loads(text) for text in stream.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)
    logging_config(level=settings.LOG_LEVEL, readable=settings.DEBUG)


@pytest.fixture
def dead_broker(settings) -> Iterator[None]:
    """Every connection to the broker is refused."""
    with no_broker(working=settings.REDIS_URL):
        yield
