"""Embedded PostgreSQL and Valkey: they start, keep their secrets, survive a kill, end with their parent."""

import multiprocessing
import os
import signal
import stat
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local import processes
from deploy.local.services import EmbeddedPostgres, EmbeddedValkey, ServiceError
from tests.local_stack.demo_run import eventually

pytestmark = pytest.mark.timeout(120)

NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path / "with space" / "postgres", durable=True) as service:
        yield service


def rows(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT i FROM kept").fetchall()


def test_a_killed_postgres_recovers_what_was_committed(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept (i integer)")
        connection.execute("INSERT INTO kept VALUES (7)")
    port = postgres.port

    postgres.kill()
    assert (postgres.cluster / "postmaster.pid").exists()
    postgres.start()

    assert postgres.port == port
    assert rows(postgres.url) == [(7,)]


def test_a_stale_pid_file_naming_a_stranger_does_not_prevent_a_start(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    (postgres.cluster / "postmaster.pid").write_text(f"{os.getpid()}\n")
    postgres.start()
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_two_servers_never_share_a_folder(postgres: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(postgres.data_dir, durable=True)
    with pytest.raises(ServiceError, match=f"pid {postgres.pid}"):
        second.wait_for_predecessor(seconds=0.2)


def test_postgres_wants_its_password_and_its_application_user_is_no_superuser(
    postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(postgres.url) as connection:
        found = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
    assert found == (False, True)
    assert stat.S_IMODE((postgres.data_dir / "password").stat().st_mode) == 0o600
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(postgres.password, "wrong"))


def test_valkey_wants_its_password_and_shows_it_to_nobody(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "with space") as valkey:
        with redis.Redis.from_url(valkey.url) as client:
            assert client.ping()
        with redis.Redis(port=valkey.port, retry=NEVER) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        command_line = Path(f"/proc/{valkey.pid}/cmdline").read_text()
        assert valkey.password not in command_line
        leader = processes.identify(valkey.pid)
    assert leader is not None and not processes.is_alive(leader)


def start_and_report(folder: Path, pipe: Connection) -> None:
    services = (EmbeddedPostgres(folder / "postgres", durable=False), EmbeddedValkey(folder / "valkey"))
    for service in services:
        service.start()
    pipe.send([service.pid for service in services])
    signal.pause()


def test_services_end_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    spawning = multiprocessing.get_context("spawn")
    parent = spawning.Process(target=start_and_report, args=(tmp_path, theirs))
    parent.start()
    assert ours.poll(60)
    started = [processes.identify(pid) for pid in ours.recv()]
    assert all(started)

    parent.kill()
    parent.join(10)

    eventually("both are gone", lambda: not any(processes.is_alive(one) for one in started if one), 20)
