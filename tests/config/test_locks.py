"""Taking turns: a courtesy that Redis does while it can, and that nobody's correctness hangs on (H12)."""

import contextlib
import time
import uuid
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.db import connection
from django.test.utils import CaptureQueriesContext
from waffle.models import Flag
from waffle.testutils import override_flag

from config import locks, redis_client
from config.locks import FLAG, run_alone
from deploy.local.services import EmbeddedValkey
from tests.redis_faults import forget, nobody, silent

pytestmark = [pytest.mark.row("H12"), pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _switched_on(db) -> Iterator[None]:
    forget()
    Flag.objects.update_or_create(name=FLAG, defaults={"everyone": True})
    caches["switches"].clear()
    yield
    forget()
    caches["switches"].clear()  # what the test rolls back must not be remembered


@pytest.fixture
def name() -> str:
    """A lock that no other test knows."""
    return f"test {uuid.uuid4().hex}"


def is_free(name: str) -> bool:
    with run_alone(name, seconds=30) as may_go_on:
        return may_go_on


def test_one_at_a_time(name):
    with run_alone(name, seconds=30) as may_go_on:
        assert may_go_on
        assert not is_free(name)
        assert is_free(f"{name}, another work")
    assert is_free(name)


def test_given_back_when_the_work_fails(name):
    with pytest.raises(ZeroDivisionError), run_alone(name, seconds=30):
        raise ZeroDivisionError
    assert is_free(name)


def test_who_was_refused_gives_nothing_back(name):
    with run_alone(name, seconds=30):
        assert not is_free(name)
        assert not is_free(name)


def test_after_its_time_the_next_one_is_let_in_and_keeps_it(name, caplog):
    """The first one's end takes nothing away from its successor."""
    with contextlib.ExitStack() as successor:
        with run_alone(name, seconds=0.05) as first:
            assert first
            _wait_for_turn(successor, name)
        assert not is_free(name)
        assert "lock ran out" in caplog.text
    assert is_free(name)


def _wait_for_turn(stack: contextlib.ExitStack, name: str) -> None:
    deadline = time.monotonic() + 10
    while not stack.enter_context(run_alone(name, seconds=30)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_lock_has_an_end_that_no_death_can_prevent(name):
    with run_alone(name, seconds=30):
        assert 0 < redis_client.client().pttl(locks._key(name)) <= 30_000


def test_two_databases_on_one_redis_do_not_wait_for_each_other(name, monkeypatch):
    with run_alone(name, seconds=30):
        monkeypatch.setitem(connection.settings_dict, "NAME", "another")
        assert is_free(name)


def test_switched_off_everybody_goes_on(name):
    with run_alone(name, seconds=30), override_flag(FLAG, active=False):
        assert is_free(name)


def test_asking_again_costs_no_query(name):
    assert is_free(name)
    with CaptureQueriesContext(connection) as queries:
        assert is_free(name)
    assert len(queries) == 0


def test_redis_gone_everybody_goes_on_and_it_is_said_once(name, settings, caplog):
    settings.REDIS_URL = nobody()
    with run_alone(name, seconds=30):
        assert is_free(name)
        assert is_free(name)
    assert [record.message.count("redis gone") for record in caplog.records] == [1]


def test_redis_hangs_and_nobody_waits(name, settings):
    with silent() as (address, calls):
        settings.REDIS_URL = address
        began = time.monotonic()
        for _ in range(20):
            assert is_free(name)
        took = time.monotonic() - began
    assert len(calls) == 1
    assert took < 10 * redis_client.TIMEOUT_SECONDS


def test_redis_stops_during_the_work(name, settings, tmp_path):
    service = EmbeddedValkey(tmp_path / "valkey")
    service.start()
    settings.REDIS_URL = service.url
    with run_alone(name, seconds=30) as may_go_on:
        assert may_go_on
        service.stop()
    assert is_free(name)
