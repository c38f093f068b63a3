CREATE FUNCTION reservations_mistakes(p_event bigint, p_products bigint[], p_slots bigint[]) RETURNS jsonb
LANGUAGE sql STABLE AS $$
-- What is wrong with the lines themselves: [{"line": 0, "field": "product|slot", "mistake": ...}], or NULL.
-- Slot 0 means none. A product is sold by slot where one of its quotas belongs to a slot.
SELECT jsonb_agg(jsonb_build_object('line', ord - 1, 'field', field, 'mistake', mistake) ORDER BY ord)
FROM (
    SELECT l.ord,
        CASE WHEN p.id IS NULL THEN 'product' ELSE 'slot' END AS field,
        CASE
            WHEN p.id IS NULL THEN 'unknown'
            WHEN l.slot = 0 AND s.has_slots THEN 'required'
            WHEN l.slot <> 0 AND NOT s.has_this_slot THEN 'unknown'
        END AS mistake
    FROM unnest(p_products, p_slots) WITH ORDINALITY AS l (product, slot, ord)
    LEFT JOIN ticketing_product p ON p.id = l.product AND p.event_id = p_event
    LEFT JOIN LATERAL (
        SELECT bool_or(q.slot_id IS NOT NULL) AS has_slots, COALESCE(bool_or(q.slot_id = l.slot), false) AS has_this_slot
        FROM ticketing_product_quotas pq JOIN ticketing_quota q ON q.id = pq.quota_id WHERE pq.product_id = p.id
    ) s ON true
) looked_at
WHERE mistake IS NOT NULL
$$;

CREATE FUNCTION reservations_sold_out(p_event bigint, p_products bigint[], p_slots bigint[], p_quantities int[])
RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
-- The answer "not enough": each line that draws on a quota without room for the whole request, with what is left.
-- Claims of holds past their time count as free, though they may not have been taken back yet.
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    RETURN (
        WITH line AS (
            SELECT * FROM unnest(p_products, p_slots, p_quantities) WITH ORDINALITY AS l (product, slot, quantity, ord)
        ), draw AS (
            SELECT line.ord, line.quantity, q.id AS quota_id, q.capacity - q.held - q.sold AS counted
            FROM line
            JOIN ticketing_product_quotas pq ON pq.product_id = line.product
            JOIN ticketing_quota q ON q.id = pq.quota_id AND (q.slot_id IS NULL OR q.slot_id = line.slot)
        ), past AS (
            SELECT c.quota_id, sum(c.quantity) AS quantity FROM reservations_reservation r
            JOIN reservations_reservationline rl ON rl.reservation_id = r.id
            JOIN reservations_claim c ON c.line_id = rl.id
            WHERE r.event_id = p_event AND r.status = 'ACTIVE' AND r.expires_at <= v_now
            GROUP BY c.quota_id
        ), quota AS (
            SELECT d.quota_id, sum(d.quantity) AS wanted, min(d.counted) + COALESCE(min(past.quantity), 0) AS free
            FROM draw d LEFT JOIN past ON past.quota_id = d.quota_id GROUP BY d.quota_id
        )
        SELECT jsonb_build_object('result', 'sold_out', 'lines', jsonb_agg(jsonb_build_object(
            'product', l.product, 'slot', NULLIF(l.slot, 0), 'requested', l.quantity,
            'available', GREATEST(l.available, 0)) ORDER BY l.ord))
        FROM (
            SELECT line.ord, line.product, line.slot, line.quantity, min(quota.free) AS available
            FROM line JOIN draw USING (ord) JOIN quota USING (quota_id)
            GROUP BY line.ord, line.product, line.slot, line.quantity
            HAVING bool_or(quota.free < quota.wanted)
        ) l
    );
END $$;

CREATE FUNCTION reservations_is_returning(p_event bigint, p_quotas bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
-- Is there a hold past its time on one of these quotas that nobody has taken back yet? The comparison with a variable
-- and the ORDER BY let the probe use the partial index and stop at the first row.
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM FROM reservations_reservation r
    WHERE r.event_id = p_event AND r.status = 'ACTIVE' AND r.expires_at <= v_now
      AND EXISTS (SELECT FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
                  WHERE rl.reservation_id = r.id AND c.quota_id = ANY (p_quotas))
    ORDER BY r.expires_at LIMIT 1;
    RETURN FOUND;
END $$;

CREATE FUNCTION reservations_reserve(
    p_id uuid, p_event_slug text, p_products bigint[], p_slots bigint[], p_quantities int[],
    p_key text, p_hash text, p_buyer_key text
) RETURNS jsonb LANGUAGE plpgsql AS $$
-- Takes a hold: all lines or nothing, in one round trip. Lines come as arrays side by side, slot 0 for none, each
-- product and slot once. Answers {"result": granted | replayed | key_reused | unknown_event | invalid | not_on_sale |
-- limit_exceeded | sold_out | retry, ...}; granted and replayed carry "reservation" (reservations_describe).
--
-- 1 The idempotency key first: a second request with the same key waits here, then finds the first one's reservation.
-- 2 Facts that need no lock: the event, the lines, the sale, the limits.
-- 3 Look at the quotas without a lock. Where one seems full, take hold of ACTIVE reservations there that are past
--   their time, skipping those that somebody else is working on.
-- 4 Lock the wanted quotas and those of the reservations taken hold of, together, in id order.
-- 5 Give back; look again. Still short: "retry" if somebody else is giving back at this moment, else "sold_out".
-- 6 Count up, write reservation, lines and claims. The database's clock says until when.
--
-- Locks are taken in one order everywhere: key, reservations, quotas by id. A refusal keeps nothing but what step 5
-- gave back.
DECLARE
    c_take_back CONSTANT int := 200;  -- at most so many in one call: bounded time under the quota lock
    v_now timestamptz := clock_timestamp();
    v_event ticketing_event;
    v_bound record;
    v_found jsonb;
    v_quotas bigint[];
    v_wanted int[];
    v_lock bigint[];
    v_over uuid[];
BEGIN
    IF p_key IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('reservation-key:' || p_key, 0));
        SELECT k.request_hash, r.id, r.status, r.expires_at INTO v_bound
        FROM reservations_reservationkey k JOIN reservations_reservation r ON r.id = k.reservation_id
        WHERE k.key = p_key;
        IF FOUND THEN
            IF v_bound.request_hash <> p_hash THEN
                RETURN jsonb_build_object('result', 'key_reused');
            END IF;
            IF v_bound.status IN ('ORDERED', 'CONFIRMED')
               OR (v_bound.status = 'ACTIVE' AND v_bound.expires_at > clock_timestamp()) THEN
                RETURN jsonb_build_object('result', 'replayed', 'reservation', reservations_describe(v_bound.id));
            END IF;
        END IF;
    END IF;

    SELECT * INTO v_event FROM ticketing_event WHERE slug = p_event_slug AND status <> 'DRAFT';
    IF NOT FOUND THEN
        RETURN jsonb_build_object('result', 'unknown_event');
    END IF;
    v_found := reservations_mistakes(v_event.id, p_products, p_slots);
    IF v_found IS NOT NULL THEN
        RETURN jsonb_build_object('result', 'invalid', 'mistakes', v_found);
    END IF;

    SELECT jsonb_agg(jsonb_build_object('product', l.product, 'slot', NULLIF(l.slot, 0)) ORDER BY l.ord) INTO v_found
    FROM unnest(p_products, p_slots) WITH ORDINALITY AS l (product, slot, ord)
    JOIN ticketing_product p ON p.id = l.product
    LEFT JOIN ticketing_slot s ON s.id = l.slot
    WHERE v_event.status <> 'PUBLISHED'
       OR p.is_stopped
       OR v_now < p.sale_starts_at
       OR v_now >= LEAST(p.sale_ends_at, COALESCE(s.ends_at, v_event.ends_at))  -- LEAST passes over NULLs
       OR NOT EXISTS (SELECT FROM ticketing_product_quotas pq WHERE pq.product_id = p.id);
    IF v_found IS NOT NULL THEN
        RETURN jsonb_build_object('result', 'not_on_sale', 'lines', v_found);
    END IF;

    SELECT jsonb_agg(jsonb_build_object('product', p.id, 'requested', w.quantity, 'max_per_order', p.max_per_order))
    INTO v_found
    FROM (SELECT l.product, sum(l.quantity) AS quantity
          FROM unnest(p_products, p_quantities) AS l (product, quantity) GROUP BY l.product) w
    JOIN ticketing_product p ON p.id = w.product
    WHERE w.quantity > p.max_per_order;
    IF v_found IS NOT NULL THEN
        RETURN jsonb_build_object('result', 'limit_exceeded', 'lines', v_found);
    END IF;

    SELECT array_agg(quota_id ORDER BY quota_id), array_agg(quantity ORDER BY quota_id) INTO v_quotas, v_wanted
    FROM (
        SELECT q.id AS quota_id, sum(l.quantity)::int AS quantity
        FROM unnest(p_products, p_slots, p_quantities) AS l (product, slot, quantity)
        JOIN ticketing_product_quotas pq ON pq.product_id = l.product
        JOIN ticketing_quota q ON q.id = pq.quota_id AND (q.slot_id IS NULL OR q.slot_id = l.slot)
        GROUP BY q.id
    ) w;
    v_lock := v_quotas;

    IF EXISTS (SELECT FROM unnest(v_quotas, v_wanted) AS w (quota_id, quantity)
               JOIN ticketing_quota q ON q.id = w.quota_id WHERE q.capacity - q.held - q.sold < w.quantity) THEN
        SELECT array_agg(id) INTO v_over FROM (
            SELECT r.id FROM reservations_reservation r
            WHERE r.event_id = v_event.id AND r.status = 'ACTIVE' AND r.expires_at <= v_now
              AND EXISTS (SELECT FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
                          WHERE rl.reservation_id = r.id AND c.quota_id = ANY (v_quotas))
            ORDER BY r.expires_at LIMIT c_take_back FOR NO KEY UPDATE OF r SKIP LOCKED
        ) due;
        IF v_over IS NULL THEN
            -- Nothing of ours to take back: either truly full, or somebody else is giving back right now.
            IF reservations_is_returning(v_event.id, v_quotas) THEN
                RETURN jsonb_build_object('result', 'retry');
            END IF;
            v_found := reservations_sold_out(v_event.id, p_products, p_slots, p_quantities);
            IF v_found -> 'lines' <> 'null'::jsonb THEN
                RETURN v_found;
            END IF;  -- room appeared between the two looks: go on and take it
        ELSE
            SELECT array_agg(DISTINCT quota_id) INTO v_lock FROM (
                SELECT unnest(v_quotas) AS quota_id
                UNION
                SELECT c.quota_id FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
                WHERE rl.reservation_id = ANY (v_over)
            ) together;
        END IF;
    END IF;

    PERFORM FROM ticketing_quota WHERE id = ANY (v_lock) ORDER BY id FOR NO KEY UPDATE;
    IF v_over IS NOT NULL THEN
        PERFORM reservations_end(v_over, 'ACTIVE', 'EXPIRED', 'buyer', 'taken back by the next buyer');
    END IF;
    IF EXISTS (SELECT FROM unnest(v_quotas, v_wanted) AS w (quota_id, quantity)
               JOIN ticketing_quota q ON q.id = w.quota_id WHERE q.capacity - q.held - q.sold < w.quantity) THEN
        IF reservations_is_returning(v_event.id, v_quotas) THEN
            RETURN jsonb_build_object('result', 'retry');
        END IF;
        v_found := reservations_sold_out(v_event.id, p_products, p_slots, p_quantities);
        IF v_found -> 'lines' = 'null'::jsonb THEN  -- a hold ran out since the look before
            RETURN jsonb_build_object('result', 'retry');
        END IF;
        RETURN v_found;
    END IF;

    PERFORM ticketing_move_stock(v_quotas, v_wanted, array_fill(0, ARRAY[cardinality(v_quotas)]));
    v_now := clock_timestamp();
    INSERT INTO reservations_reservation (id, event_id, status, buyer_key, currency, created_at, expires_at)
    VALUES (p_id, v_event.id, 'ACTIVE', p_buyer_key, v_event.currency, v_now,
            v_now + make_interval(mins => v_event.hold_window_minutes));
    INSERT INTO reservations_reservationline
        (reservation_id, product_id, slot_id, quantity, unit_price_minor, discount_minor)
    SELECT p_id, l.product, NULLIF(l.slot, 0), l.quantity, p.price_minor, 0
    FROM unnest(p_products, p_slots, p_quantities) WITH ORDINALITY AS l (product, slot, quantity, ord)
    JOIN ticketing_product p ON p.id = l.product ORDER BY l.ord;
    INSERT INTO reservations_claim (line_id, quota_id, quantity)
    SELECT rl.id, q.id, rl.quantity
    FROM reservations_reservationline rl
    JOIN ticketing_product_quotas pq ON pq.product_id = rl.product_id
    JOIN ticketing_quota q ON q.id = pq.quota_id AND (q.slot_id IS NULL OR q.slot_id = rl.slot_id)
    WHERE rl.reservation_id = p_id;
    IF p_key IS NOT NULL THEN
        INSERT INTO reservations_reservationkey (key, request_hash, reservation_id, created_at)
        VALUES (p_key, p_hash, p_id, v_now)
        ON CONFLICT (key) DO UPDATE SET reservation_id = EXCLUDED.reservation_id, created_at = EXCLUDED.created_at;
    END IF;
    RETURN jsonb_build_object('result', 'granted', 'reservation', reservations_describe(p_id));
END $$;
