"""Taking one guard off, to see what it is there for. `altered_database` (conftest) puts the database back."""

from tests.purchases import sql


def without(guard: str, function: str, *, instead: str = "") -> None:
    """Takes one guard's text out of a function of this database."""
    sql(
        f"""DO $do$ DECLARE v_text text := pg_get_functiondef('{function}'::regproc); BEGIN
            IF position($g${guard}$g$ IN v_text) = 0 THEN RAISE 'the guard is not there'; END IF;
            EXECUTE replace(v_text, $g${guard}$g$, $g${instead}$g$); END $do$"""
    )


def slow(place: str, function: str, *, seconds: float = 0.3) -> None:
    """The database dawdles just before the text `place`."""
    without(place, function, instead=f"PERFORM pg_sleep({seconds}); {place}")
