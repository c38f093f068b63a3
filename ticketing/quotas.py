"""The only writer of the stock counters. The work is done by the database function `ticketing_move_stock`
(migrations/0002), which the hold functions of `reservations` call too, so there is one way to move stock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import connection


@dataclass(frozen=True, slots=True)
class Move:
    """Changes to one quota's counters; a sale is `Move(held=-n, sold=+n)`."""

    held: int = 0
    sold: int = 0


def move_stock(moves: Mapping[int, Move]) -> None:
    """Applies `moves` (by quota id), locking the quotas in id order. Runs inside the caller's transaction.

    Call it last before the commit: the quota row is the hot one, and everything after it is done under its lock.
    """
    if not moves:
        return
    ids = sorted(moves)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ticketing_move_stock(%s::bigint[], %s::int[], %s::int[])",
            [ids, [moves[quota].held for quota in ids], [moves[quota].sold for quota in ids]],
        )


def lowest_capacity(quota_id: int) -> int:
    """What the capacity can be lowered to: the units held and sold right now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT held + sold FROM ticketing_quota WHERE id = %s", [quota_id])
        row = cursor.fetchone()
    return row[0] if row else 0
