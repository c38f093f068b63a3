from collections.abc import Iterator

import pytest
from django.db import connection

FUNCTIONS = ("ticketing_move_stock", "reservations_reserve", "reservations_end", "reservations_release_expired")
CONSTRAINTS = {
    "quota_is_never_oversold": "ticketing_quota",
    "promo_code_is_never_overused": "reservations_promocode",
}


@pytest.fixture
def altered_database(transactional_db) -> Iterator[None]:
    """For tests that take a guard off: puts functions and constraints of the stock back as they were."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = ANY (%s)", [list(FUNCTIONS)])
        functions = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = ANY (%s)", [list(CONSTRAINTS)]
        )
        guards = dict(cursor.fetchall())
    assert (len(functions), len(guards)) == (len(FUNCTIONS), len(CONSTRAINTS))
    yield
    with connection.cursor() as cursor:
        for function in functions:
            cursor.execute(function)
        for name, table in CONSTRAINTS.items():
            cursor.execute(f"TRUNCATE {table} CASCADE")
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
            cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {guards[name]}")


@pytest.fixture(params=[1, 64], ids=["one by one", "combined"])
def together(request, settings) -> int:
    """How many requests of one event share a call: each on its own connection, or the threads of one process combined."""
    settings.HOLD_BATCH = request.param
    return request.param


@pytest.fixture
def one_by_one(settings) -> None:
    """Each thread asks the database itself, as processes do: races are between connections."""
    settings.HOLD_BATCH = 1
