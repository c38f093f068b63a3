CREATE OR REPLACE FUNCTION reservations_end(p_ids uuid[], p_from text, p_to text, p_by text, p_why text) RETURNS int
LANGUAGE plpgsql AS $$
-- Moves those of p_ids that are still p_from to p_to (RELEASED or EXPIRED), gives back what their claims took and
-- their uses of promo codes, and writes the history. Returns how many moved, so a second call gives nothing back. The
-- caller should hold the rows' locks; then come promo codes and quotas, each in id order.
DECLARE
    v_moved uuid[];
    v_codes bigint[];
    v_quotas bigint[];
    v_held int[];
BEGIN
    WITH moved AS (
        UPDATE reservations_reservation SET status = p_to, ended_at = clock_timestamp()
        WHERE id = ANY (p_ids) AND status = p_from RETURNING id, promo_code_id
    ) SELECT array_agg(id), array_agg(promo_code_id) FILTER (WHERE promo_code_id IS NOT NULL)
      INTO v_moved, v_codes FROM moved;
    IF v_moved IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO reservations_statuschange (kind, object_id, from_status, to_status, by, why, at)
    SELECT 'reservation', id::text, p_from, p_to, p_by, p_why, clock_timestamp() FROM unnest(v_moved) AS id;
    IF v_codes IS NOT NULL THEN
        PERFORM FROM reservations_promocode WHERE id = ANY (v_codes) ORDER BY id FOR NO KEY UPDATE;
        UPDATE reservations_promocode AS c SET uses = c.uses - given_back.uses
        FROM (SELECT code_id, count(*) AS uses FROM unnest(v_codes) AS code_id GROUP BY code_id) given_back
        WHERE c.id = given_back.code_id;
    END IF;
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
