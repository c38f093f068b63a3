"""PF1's yardstick: the best that one durable statement per hold can do on one hot row, asked by PostgreSQL's own tool."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psycopg

from deploy.local.services import DATABASE, EmbeddedPostgres, ServiceError, find_postgres

# A hot row and its holds, with what a real table would need at least: keys, a foreign key, a check, an index for expiry.
TABLES = """
DROP TABLE IF EXISTS bench_hold, bench_quota;
CREATE TABLE bench_quota (
    id int PRIMARY KEY,
    capacity int NOT NULL,
    held int NOT NULL DEFAULT 0,
    CHECK (held BETWEEN 0 AND capacity)
) WITH (fillfactor = 50);
CREATE TABLE bench_hold (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    quota_id int NOT NULL REFERENCES bench_quota,
    quantity int NOT NULL,
    status text NOT NULL DEFAULT 'ACTIVE',
    expires_at timestamptz NOT NULL
);
CREATE INDEX ON bench_hold (expires_at) WHERE status = 'ACTIVE';
INSERT INTO bench_quota VALUES (1, 2000000000);
"""
ONE_STATEMENT = """
WITH taken AS (
    UPDATE bench_quota SET held = held + 1 WHERE id = 1 AND held + 1 <= capacity RETURNING id
)
INSERT INTO bench_hold (quota_id, quantity, expires_at)
SELECT id, 1, now() + interval '15 minutes' FROM taken RETURNING id;
"""


def rates(postgres: EmbeddedPostgres, folder: Path, *, clients: Iterable[int], seconds: int) -> dict[int, float]:
    """Holds per second for each number of clients."""
    script = folder / "one_statement.sql"
    script.write_text(ONE_STATEMENT)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(TABLES)
    try:
        return {count: _rate(postgres, script, clients=count, seconds=seconds) for count in clients}
    finally:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("DROP TABLE bench_hold, bench_quota")


def _rate(postgres: EmbeddedPostgres, script: Path, *, clients: int, seconds: int) -> float:
    programme = find_postgres() / "pgbench"
    if not programme.exists():
        raise ServiceError("this PostgreSQL comes without pgbench")
    argv = [str(programme), "--no-vacuum", "--protocol", "prepared", "--file", str(script)]
    argv += ["--client", str(clients), "--jobs", str(min(clients, 2)), "--time", str(seconds)]
    argv += ["--host", "127.0.0.1", "--port", str(postgres.port), "--username", DATABASE, DATABASE]
    env = {**postgres.clean_env(), "PGPASSWORD": postgres.password}  # arguments can be read by everybody
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)  # noqa: S603 - our own
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise ServiceError(f"pgbench failed: {done.stderr.strip() or done.stdout.strip()}")
    return float(found.group(1))
