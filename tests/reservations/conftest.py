from collections.abc import Iterator

import pytest
from django.db import connection


@pytest.fixture
def altered_database(transactional_db) -> Iterator[None]:
    """For tests that take a guard off: puts functions and constraints of the stock back as they were."""
    names = ("ticketing_move_stock", "reservations_reserve", "reservations_end", "reservations_release_expired")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = ANY (%s)", [list(names)])
        functions = [row[0] for row in cursor.fetchall()]
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'quota_is_never_oversold'")
        guard = cursor.fetchone()[0]
    assert len(functions) == len(names)
    yield
    with connection.cursor() as cursor:
        for function in functions:
            cursor.execute(function)
        cursor.execute("TRUNCATE ticketing_quota CASCADE")
        cursor.execute("ALTER TABLE ticketing_quota DROP CONSTRAINT IF EXISTS quota_is_never_oversold")
        cursor.execute(f"ALTER TABLE ticketing_quota ADD CONSTRAINT quota_is_never_oversold {guard}")
