"""The one function that moves stock counters, storage settings for their hot rows, and time limits for our sessions."""

from django.db import migrations

MOVE_STOCK = """
CREATE FUNCTION ticketing_move_stock(p_quotas bigint[], p_held int[], p_sold int[]) RETURNS void
LANGUAGE plpgsql AS $$
-- Adds p_held and p_sold to the counters of p_quotas (three arrays side by side, no quota twice).
-- Rows are locked in id order before any is changed: callers with crossed sets cannot deadlock.
-- The constraint quota_is_never_oversold is what refuses; nothing is checked here.
DECLARE
    v_locked int;
BEGIN
    SELECT count(*) INTO v_locked FROM (
        SELECT id FROM ticketing_quota WHERE id = ANY (p_quotas) ORDER BY id FOR NO KEY UPDATE
    ) locked;
    IF v_locked <> cardinality(p_quotas) THEN
        RAISE EXCEPTION 'quota not found or named twice among %', p_quotas USING ERRCODE = 'foreign_key_violation';
    END IF;
    UPDATE ticketing_quota AS q SET held = q.held + d.held, sold = q.sold + d.sold
    FROM unnest(p_quotas, p_held, p_sold) AS d (quota_id, held, sold) WHERE q.id = d.quota_id;
END $$;
"""

# Room on each page for new versions of the hot row, and no index on a counter: updates stay inside the page (HOT).
HOT_ROWS = """
ALTER TABLE ticketing_quota SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""

# On the role, not in the connection string: PgBouncer in transaction mode passes neither SET nor startup options on.
TIME_LIMITS = """
DO $$ BEGIN
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET lock_timeout = ''5s''', current_user, current_database());
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = ''30s''', current_user, current_database());
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET idle_in_transaction_session_timeout = ''30s''',
                   current_user, current_database());
END $$;
"""
NO_TIME_LIMITS = """
DO $$ BEGIN
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', current_user, current_database());
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("ticketing", "0001_initial")]

    operations = [
        migrations.RunSQL(MOVE_STOCK, "DROP FUNCTION ticketing_move_stock(bigint[], int[], int[])"),
        migrations.RunSQL(
            HOT_ROWS,
            "ALTER TABLE ticketing_quota RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)",
        ),
        migrations.RunSQL(TIME_LIMITS, NO_TIME_LIMITS),
    ]
