CREATE FUNCTION reservations_end(p_ids uuid[], p_from text, p_to text, p_by text, p_why text) RETURNS int
LANGUAGE plpgsql AS $$
-- Moves those of p_ids that are still p_from to p_to (RELEASED or EXPIRED), gives back what their claims took, and
-- writes the history. Returns how many moved, so a second call gives nothing back. The caller should hold the rows'
-- locks; quotas are locked last, in id order, by ticketing_move_stock.
DECLARE
    v_moved uuid[];
    v_quotas bigint[];
    v_held int[];
BEGIN
    WITH moved AS (
        UPDATE reservations_reservation SET status = p_to, ended_at = clock_timestamp()
        WHERE id = ANY (p_ids) AND status = p_from RETURNING id
    ) SELECT array_agg(id) INTO v_moved FROM moved;
    IF v_moved IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO reservations_statuschange (kind, object_id, from_status, to_status, by, why, at)
    SELECT 'reservation', id::text, p_from, p_to, p_by, p_why, clock_timestamp() FROM unnest(v_moved) AS id;
    SELECT array_agg(quota_id ORDER BY quota_id), array_agg(-quantity ORDER BY quota_id) INTO v_quotas, v_held
    FROM (
        SELECT c.quota_id, sum(c.quantity)::int AS quantity
        FROM reservations_reservationline l JOIN reservations_claim c ON c.line_id = l.id
        WHERE l.reservation_id = ANY (v_moved) GROUP BY c.quota_id
    ) taken;
    IF v_quotas IS NOT NULL THEN
        PERFORM ticketing_move_stock(v_quotas, v_held, array_fill(0, ARRAY[cardinality(v_quotas)]));
    END IF;
    RETURN cardinality(v_moved);
END $$;

CREATE FUNCTION reservations_release_expired(p_limit int) RETURNS int LANGUAGE plpgsql AS $$
-- One batch of the sweep: at most p_limit ACTIVE reservations past their time. Rows that somebody else is working on
-- are skipped, so two sweepers share the work and no buyer waits for one.
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
BEGIN
    SELECT array_agg(id) INTO v_ids FROM (
        SELECT id FROM reservations_reservation
        WHERE status = 'ACTIVE' AND expires_at <= v_now
        ORDER BY expires_at LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    ) due;
    IF v_ids IS NULL THEN
        RETURN 0;
    END IF;
    RETURN reservations_end(v_ids, 'ACTIVE', 'EXPIRED', 'sweep', 'time is over');
END $$;
