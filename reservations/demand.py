"""Unmet demand (who was told "sold out"), rate limit hits and other tallies: added up in this process, written once a second.

Counting costs microseconds and no query, so that a rush is not made worse by being measured. The first count after a
quiet time starts a timer, which writes everything at once. The timer runs in the web process (DEMAND_FLUSH_SECONDS);
elsewhere nothing is written until somebody calls `flush`. A process that is killed loses at most its last second.
"""

import os
import threading
from collections import Counter
from multiprocessing import util as processes

import structlog
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction

from config.database import retried_on_conflict

logger = structlog.get_logger(__name__)

AT_MOST = 10_000  # of each kind between two writes; what exceeds it is not counted
MOST_UNITS = 10_000  # of one request


class _Tally:
    """What was counted and not yet written; one per process."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Empty, as a forked process must be: what it inherited is its parent's to write."""
        self.lock = threading.Lock()
        self.requests: Counter[tuple[int, int]] = Counter()  # by product and slot, 0 for no slot
        self.units: Counter[tuple[int, int]] = Counter()
        self.hits: Counter[tuple[str, str]] = Counter()  # by limit and who
        self.tallies: Counter[str] = Counter()
        self.timer: threading.Timer | None = None
        self.is_written_at_exit = False


_tally = _Tally()
os.register_at_fork(after_in_child=_tally.begin)


def conflict(product_id: int, slot_id: int | None, units: int) -> None:
    """Somebody asked for `units` of this product (at this slot) and there were not enough."""
    place = (product_id, slot_id or 0)
    with _tally.lock:
        if place in _tally.requests or len(_tally.requests) < AT_MOST:
            _tally.requests[place] += 1
            _tally.units[place] += min(units, MOST_UNITS)
        _write_soon()


def limit_hit(limit: str, who: str) -> None:
    """`who` (a digest or an address, nothing personal beyond that) ran into the rate limit called `limit`."""
    place = (_storable(limit, 40), _storable(who, 64))
    with _tally.lock:
        if place in _tally.hits or len(_tally.hits) < AT_MOST:
            _tally.hits[place] += 1
        _write_soon()


def tally(name: str) -> None:
    """Something happened that is counted by the minute and needs no row of its own. Names are ours: a handful."""
    with _tally.lock:
        _tally.tallies[name] += 1
        _write_soon()


def flush() -> int:
    """Writes what was counted, by the database's clock; how many rows that were.

    When the database is away the counts are kept for the next try, and the error is raised.
    """
    with _tally.lock:
        requests, units, hits, tallies = _tally.requests, _tally.units, _tally.hits, _tally.tallies
        _tally.requests, _tally.units, _tally.hits, _tally.tallies = Counter(), Counter(), Counter(), Counter()
    if not requests and not hits and not tallies:
        return 0
    try:
        return _write(requests, units, hits, tallies)
    # Away, or a product was deleted at this very moment: the next try leaves that one out. Any other error would come
    # again with the same counts, so they are dropped with it.
    except (OperationalError, InterfaceError, IntegrityError):
        with _tally.lock:
            _tally.requests.update(requests)
            _tally.units.update(units)
            _tally.hits.update(hits)
            _tally.tallies.update(tallies)
            _write_soon()
        raise


@retried_on_conflict
@transaction.atomic
def _write(
    requests: Counter[tuple[int, int]],
    units: Counter[tuple[int, int]],
    hits: Counter[tuple[str, str]],
    tallies: Counter[str],
) -> int:
    """In the order of the keys, so that two processes with the same products wait for each other and do not deadlock."""
    written = 0
    with connection.cursor() as cursor:
        if requests:
            products, slots = zip(*requests, strict=True)
            cursor.execute(
                """
                INSERT INTO reservations_conflict AS c (product_id, slot_id, minute, requests, units)
                SELECT n.product, NULLIF(n.slot, 0), date_trunc('minute', clock_timestamp()), n.requests, n.units
                FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::int[]) AS n (product, slot, requests, units)
                JOIN ticketing_product p ON p.id = n.product
                WHERE n.slot = 0 OR EXISTS (SELECT FROM ticketing_slot s WHERE s.id = n.slot)
                ORDER BY n.product, n.slot
                ON CONFLICT (product_id, slot_id, minute)
                DO UPDATE SET requests = c.requests + EXCLUDED.requests, units = c.units + EXCLUDED.units
                """,
                [list(products), list(slots), list(requests.values()), [units[place] for place in requests]],
            )
            written += cursor.rowcount
        if hits:
            limits, whos = zip(*hits, strict=True)
            cursor.execute(
                """
                INSERT INTO reservations_limithit AS h ("limit", who, minute, hits)
                SELECT n.name, n.who, date_trunc('minute', clock_timestamp()), n.hits
                FROM unnest(%s::text[], %s::text[], %s::int[]) AS n (name, who, hits) ORDER BY n.name, n.who
                ON CONFLICT ("limit", who, minute) DO UPDATE SET hits = h.hits + EXCLUDED.hits
                """,
                [list(limits), list(whos), list(hits.values())],
            )
            written += cursor.rowcount
        if tallies:
            cursor.execute(
                """
                INSERT INTO reservations_tally AS t (name, minute, count)
                SELECT n.name, date_trunc('minute', clock_timestamp()), n.count
                FROM unnest(%s::text[], %s::int[]) AS n (name, count) ORDER BY n.name
                ON CONFLICT (name, minute) DO UPDATE SET count = t.count + EXCLUDED.count
                """,
                [list(tallies), list(tallies.values())],
            )
            written += cursor.rowcount
    return written


def _write_soon() -> None:
    """Starts the timer, unless it runs. The lock is held."""
    if _tally.timer is not None or not settings.DEMAND_FLUSH_SECONDS:
        return
    if not _tally.is_written_at_exit:
        # Not atexit, which the web server's forked processes leave out.
        processes.Finalize(None, _write_at_exit, exitpriority=1)
        _tally.is_written_at_exit = True
    _tally.timer = threading.Timer(settings.DEMAND_FLUSH_SECONDS, _write_now)
    _tally.timer.daemon = True
    _tally.timer.start()


def _write_now() -> None:
    with _tally.lock:
        _tally.timer = None
    try:
        flush()
    except Exception as error:  # statistics: whatever it is, it must not stop the next write
        logger.warning("unmet demand not written", error=type(error).__name__)
    finally:
        connection.close()  # this thread's; back to the pool


def _write_at_exit() -> None:
    if not settings.DEMAND_FLUSH_SECONDS:
        return
    try:
        flush()
    except Exception as error:  # the process is ending
        logger.warning("unmet demand lost at the end of a process", error=type(error).__name__)


def _storable(text: str, length: int) -> str:
    return text.replace("\x00", "")[:length]
