"""PF10 and PF12: what one hold costs the database, and what standing idle costs in memory."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import connections
from django.db.models import F

from deploy.bench import load
from deploy.bench import memory as processes_memory
from deploy.bench.catalogue import Sale, new_sale
from deploy.bench.office import RESERVATIONS, Office
from deploy.bench.report import Row, failed, judged
from deploy.bench.stack import STATEMENTS, call, get
from deploy.local.services import DATABASE
from reservations import holds
from ticketing.models import Quota

READY_SECONDS = 30.0
MIB = 1_024  # KiB
# How PostgreSQL itself asks whether a foreign key's row is there; nobody sent that over a connection.
FOREIGN_KEY_CHECK = "%OPERATOR(pg_catalog.=)%FOR KEY SHARE%"


def statements(office: Office) -> Sequence[Row]:
    office.fresh_start()
    rows = list(_counted(office)) if office.stack.has_statements else _uncounted()
    return [*rows, _under_lock(office)]


def _uncounted() -> list[Row]:
    why = f"this PostgreSQL comes without {STATEMENTS}"
    return [failed("PF10.statements", why), failed("PF10.writes", why)]


def _counted(office: Office) -> Sequence[Row]:
    """One buyer after the other over one connection, so that nothing is shared; PostgreSQL counts."""
    sale = new_sale()
    job = office.job(office.product, office.hold(sale), connections=1)
    with office.stack.superuser() as database:
        database.execute(f"CREATE EXTENSION IF NOT EXISTS {STATEMENTS}")
        office.stack.track_statements("top")
        load.run(job, processes=1)
        database.execute(f"SELECT {STATEMENTS}_reset()")
        began = _transactions(database)
        outcome = load.run(job, processes=1)
        written = _transactions(database) - began
        found = database.execute(
            f"""
            SELECT s.query, s.calls, s.mean_exec_time FROM {STATEMENTS} s JOIN pg_roles r ON r.oid = s.userid
            WHERE r.rolname = %s AND s.query NOT LIKE %s ORDER BY s.calls DESC
            """,  # noqa: S608 - a constant
            [DATABASE, FOREIGN_KEY_CHECK],
        ).fetchall()
        office.stack.track_statements("none")
    count = outcome.tally.statuses[201]
    is_sound = count > 0 and bool(found) and outcome.unexpected(201) == 0
    calls = round(sum(row[1] for row in found) / max(1, count), 1)  # a timer's statement is no hold's
    writes = round(written / max(1, count), 1)
    shown = [f"{row[1] / max(1, count):.2f} × {' '.join(row[0].split())[:90]} ({row[2]:.2f} ms)" for row in found[:6]]
    return [
        judged(
            "PF10.statements",
            calls,
            f"{calls:g}",
            is_sound=is_sound,
            notes=(f"{count:,} holds one at a time; " + "; ".join(shown),),
            numbers={"holds": count, "statements": [list(row) for row in found]},
        ),
        judged("PF10.writes", writes, f"{writes:g}", is_sound=is_sound),
    ]


def _transactions(database: psycopg.Connection[Any]) -> int:
    """How many transaction ids were given out: only transactions that write get one."""
    row = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _under_lock(office: Office) -> Row:
    """From the moment the quota's lock falls free to the committed answer: an upper bound of the time under it.

    We hold the lock, let a buyer queue for it, and watch how long after our letting go the buyer is done.
    """
    sale = new_sale()
    with office.stack.superuser() as locker, office.stack.superuser() as watcher:
        locker.execute("SET synchronous_commit = off")  # our own letting go shall not wait for the disk
        with ThreadPoolExecutor(max_workers=1) as buyer:  # one thread: one connection, and its plans, for all calls
            took: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(office.size.single_holds):
                for is_hold, seen in took.items():
                    seen.append(_after_lock(sale, buyer, locker, watcher, is_hold=is_hold))
            buyer.submit(connections.close_all).result()
    took = {is_hold: seen[len(seen) // 10 :] for is_hold, seen in took.items()}  # the first ones plan their statements
    p50, p99 = (load.percentile(took[True], percent) * 1_000 for percent in (50, 99))
    bare = load.percentile(took[False], 50) * 1_000
    return judged(
        "PF10.lock",
        p50,
        f"{p50:.2f} ms, p99 {p99:.2f} ms",
        yardstick=f"{bare:.2f} ms",
        ratio=p50 / bare,
        notes=(
            "an upper bound: from our letting go of the quota's row to the buyer's committed answer",
            "its yardstick is one bare UPDATE of that row, seen the same way",
        ),
        numbers={"p50_ms": p50, "p99_ms": p99, "bare_update_p50_ms": bare},
    )


def _after_lock(
    sale: Sale,
    buyer: ThreadPoolExecutor,
    locker: psycopg.Connection[Any],
    watcher: psycopg.Connection[Any],
    *,
    is_hold: bool,
) -> float:
    def buy() -> float:
        if is_hold:
            holds.reserve(sale.slug, lines=[holds.Wanted(sale.product, None, 1)])
        else:
            Quota.objects.filter(pk=sale.quota).update(held=F("held"))
        return time.monotonic()

    with locker.transaction():
        locker.execute("SELECT FROM ticketing_quota WHERE id = %s FOR NO KEY UPDATE", [sale.quota])
        done_at = buyer.submit(buy)
        _wait_for_a_waiter(watcher)
        let_go_at = time.monotonic()
    return done_at.result() - let_go_at


def _wait_for_a_waiter(watcher: psycopg.Connection[Any]) -> None:
    deadline = time.monotonic() + 5
    query = "SELECT FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
    while watcher.execute(query, [DATABASE]).fetchone() is None:
        if time.monotonic() > deadline:
            raise RuntimeError("a hold does not wait for its quota's row")
        time.sleep(0.001)
    time.sleep(0.002)  # it is asleep by now


def memory(office: Office) -> Sequence[Row]:
    """Web, worker, beat, PostgreSQL and Valkey, started, used once and left alone."""
    if sys.platform != "linux":
        return [failed("PF12", "PSS is only told by Linux")]
    office.fresh_start()
    sale = new_sale()
    children = office.stack.start_worker_and_beat()
    for _ in range(10):
        call(office.product.port, "POST", RESERVATIONS, body=sale.body)
    _wait_for_beat(office)
    time.sleep(office.size.settle_seconds)
    parts = {
        "web": office.product.child.pid,
        "worker": children[0].pid,
        "beat": children[1].pid,
        "PostgreSQL": office.stack.postgres.pid,
        "Valkey": office.stack.redis.pid,
    }
    if not all(child.is_running for child in children):
        return [failed("PF12", "worker or beat ended early")]
    try:
        found = {name: processes_memory.of_families([pid]) for name, pid in parts.items()}
    except PermissionError:
        return [failed("PF12", "the kernel does not tell this user about PostgreSQL's memory")]
    for child in children:
        office.stack.stop(child)
    whole = sum(found.values(), processes_memory.Memory())
    parts_shown = ", ".join(f"{name} {part.pss / MIB:.0f}" for name, part in found.items())
    alone = f"private pages alone {whole.private / MIB:.0f}, RSS {whole.rss / MIB:.0f}"
    return [
        judged(
            "PF12",
            whole.pss / MIB,
            f"{whole.pss / MIB:.0f} MiB",
            notes=(
                f"PSS in MiB: {parts_shown}; {alone}",
                "pages shared with programmes outside the stack count in part, so a busy machine shows less",
            ),
            numbers={name: vars(part) for name, part in found.items()},
        )
    ]


def _wait_for_beat(office: Office) -> None:
    """Until a task went from beat through Valkey to the worker; the stack is whole then."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads(get(office.product.port, "/readyz/")[2])["checks"]["beat"]["ok"]:
                return
        time.sleep(0.2)
    office.say("PF12: no heartbeat from beat; measured all the same")
