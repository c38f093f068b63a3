CREATE FUNCTION reservations_is_returning(p_event bigint, p_quotas bigint[], p_codes bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
-- Is there a hold past its time on one of these quotas or codes that nobody has taken back yet? The comparison with a
-- variable and the ORDER BY let the probe use the partial index and stop at the first row.
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM FROM reservations_reservation r
    WHERE r.event_id = p_event AND r.status = 'ACTIVE' AND r.expires_at <= v_now
      AND (r.promo_code_id = ANY (p_codes) OR EXISTS (
          SELECT FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
          WHERE rl.reservation_id = r.id AND c.quota_id = ANY (p_quotas)))
    ORDER BY r.expires_at LIMIT 1;
    RETURN FOUND;
END $$;

CREATE FUNCTION reservations_reserve(
    p_event text,
    p_ids uuid[], p_keys text[], p_hashes text[], p_buyers text[], p_codes text[],  -- side by side, one per request
    p_owners int[], p_places int[], p_quantities int[],  -- side by side, one per line: request, place, how many
    p_products bigint[], p_slots bigint[]                -- side by side, one per place; slot 0 for none
) RETURNS jsonb LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
-- Takes holds on one event: each request all its lines or nothing. All requests of a call are decided one by one in the
-- order they stand in; what one is refused is left for the next. They share the locks, the writes and the commit.
--
-- Lines of a request stand together, in the order of requests; each place (product and slot) is named once and each
-- request names it once. No two requests of one call carry the same key or the same buyer.
--
-- Answers {"answers": [...], "currency", "extension_minutes", "now", "until", "prices": [per place]}. An answer is
-- {"result": granted | replayed | joined | key_reused | unknown_event | invalid | not_on_sale | limit_exceeded |
-- code_invalid | code_used_up | sold_out | retry, ...}; "retry" carries what it is "otherwise".
--
-- 1 Idempotency keys and buyers first: a second request of the same key or buyer waits here, then finds the first one's
--   reservation. One buyer (browser) holds one event once.
-- 2 Facts that need no lock: the event, the places, the sale, the limits, the promo codes.
-- 3 Look at the quotas without a lock. On those (and on promo codes) that somebody would be refused for, take hold of
--   ACTIVE reservations past their time, skipping those that somebody else is working on.
-- 4 Lock the promo codes, then the quotas: those asked for and those of the reservations taken hold of, in id order.
-- 5 Give back; decide. Still short: "retry" if somebody else is giving back there at this moment.
-- 6 Count up, write reservations, lines, claims and keys. The database's clock says until when.
--
-- Locks are taken in one order everywhere: keys, reservations, promo codes, quotas by id. A refusal keeps nothing but
-- what step 5 gave back. Plans are generic: left to itself, PostgreSQL plans arrays of every length anew.
DECLARE
    c_take_back CONSTANT int := 200;  -- at most so many in one call: bounded time under the quota lock
    c_no_limit CONSTANT int := 2147483647;
    c_granted CONSTANT jsonb := '{"result": "granted"}';
    n int := cardinality(p_ids);
    v_now timestamptz;
    v_until timestamptz;
    v_event ticketing_event;
    v_event_facts jsonb;
    v_answers jsonb[] := array_fill(NULL::jsonb, ARRAY[n]);  -- NULL: not decided yet
    v_row record;
    v_lines jsonb;
    -- per place
    v_mistakes text[];
    v_closed boolean[];
    v_most int[];
    v_prices bigint[];
    v_first int[] := array_fill(1, ARRAY[cardinality(p_products)]);  -- its draws, from ...
    v_last int[] := array_fill(0, ARRAY[cardinality(p_products)]);   -- ... to
    -- per draw: one place's dependence on one quota
    v_draw_places int[];
    v_draw_quotas bigint[];
    v_draw_at int[];  -- where in v_quotas
    -- per quota
    v_quotas bigint[];
    v_wanted int[];  -- by all that are pending
    v_before int[];
    v_free int[];
    -- per promo code
    v_codes bigint[] := '{}';
    v_code_names text[] := '{}';
    v_code_states text[];
    v_code_mosts int[];
    v_code_left int[];
    v_code_before int[];
    v_discounts bigint[];  -- off one unit: code by code, place by place; NULL: the code is not for this place
    -- per request
    v_from int[] := array_fill(1, ARRAY[n]);  -- its lines, from ...
    v_to int[] := array_fill(0, ARRAY[n]);    -- ... to
    v_code_of int[] := array_fill(0, ARRAY[n]);  -- where in v_codes
    v_is_granted boolean[] := array_fill(false, ARRAY[n]);
    v_is_pending boolean[] := array_fill(false, ARRAY[n]);  -- only the stock is left to ask
    v_has_keys boolean := array_remove(p_keys, NULL) <> '{}';
    v_has_buyers boolean := p_buyers <> array_fill(''::text, ARRAY[n]);
    v_has_codes boolean := p_codes <> array_fill(''::text, ARRAY[n]);
    v_all_fit boolean;
    v_granted int;
    v_refused int;
    v_is_short boolean;
    v_short_lines int[];
    v_short_quotas bigint[] := '{}';  -- on which somebody is refused
    v_short_codes bigint[] := '{}';
    v_are_quotas_returning boolean;
    v_are_codes_returning boolean;
    v_available int;
    v_over uuid[];
    v_lock bigint[];
    v_lock_codes bigint[];
    v_taken int[] := '{}';
    v_place int;
    v_code int;
    i int;
    l int;
    d int;
BEGIN
    -- 1
    SELECT * INTO v_event FROM ticketing_event WHERE slug = p_event AND status <> 'DRAFT';
    IF v_has_keys OR v_has_buyers THEN
        PERFORM pg_advisory_xact_lock(turn) FROM (
            SELECT DISTINCT hashtextextended(name, 0) AS turn FROM (
                SELECT 'reservation-key:' || key FROM unnest(p_keys) AS key WHERE key IS NOT NULL
                UNION ALL
                SELECT 'reservation-buyer:' || p_event || ':' || buyer FROM unnest(p_buyers) AS buyer WHERE buyer <> ''
            ) AS names (name) ORDER BY turn
        ) AS turns;
    END IF;
    v_now := clock_timestamp();
    IF v_has_keys THEN
        FOR v_row IN
            SELECT asked.ord, k.request_hash, r.id, r.status, r.expires_at > v_now AS is_in_time
            FROM unnest(p_keys) WITH ORDINALITY AS asked (key, ord)
            JOIN reservations_reservationkey k ON k.key = asked.key
            JOIN reservations_reservation r ON r.id = k.reservation_id
        LOOP
            IF v_row.request_hash <> p_hashes[v_row.ord] THEN
                v_answers[v_row.ord] := '{"result": "key_reused"}';
            ELSIF v_row.status IN ('ORDERED', 'CONFIRMED') OR (v_row.status = 'ACTIVE' AND v_row.is_in_time) THEN
                v_answers[v_row.ord] :=
                    jsonb_build_object('result', 'replayed', 'reservation', reservations_describe(v_row.id));
            END IF;
        END LOOP;
    END IF;
    IF v_has_buyers THEN
        FOR v_row IN
            SELECT asked.ord, held.id FROM unnest(p_buyers) WITH ORDINALITY AS asked (buyer, ord)
            CROSS JOIN LATERAL (
                SELECT r.id FROM reservations_reservation r
                WHERE r.event_id = v_event.id AND r.status = 'ACTIVE' AND r.buyer_key = asked.buyer AND r.buyer_key <> ''
                  AND r.expires_at > v_now
                ORDER BY r.expires_at DESC LIMIT 1
            ) AS held WHERE asked.buyer <> ''
        LOOP
            v_answers[v_row.ord] := COALESCE(v_answers[v_row.ord],
                jsonb_build_object('result', 'joined', 'reservation', reservations_describe(v_row.id)));
        END LOOP;
    END IF;

    -- 2
    SELECT array_agg(mistake ORDER BY ord), array_agg(is_closed ORDER BY ord), array_agg(max_per_order ORDER BY ord),
           array_agg(price_minor ORDER BY ord)
    INTO v_mistakes, v_closed, v_most, v_prices
    FROM (
        SELECT place.ord, p.max_per_order, p.price_minor,
            CASE
                WHEN p.id IS NULL THEN 'product unknown'
                WHEN place.slot = 0 AND drawn.has_slots THEN 'slot required'
                WHEN place.slot <> 0 AND NOT drawn.has_this_slot THEN 'slot unknown'
            END AS mistake,
            v_event.status <> 'PUBLISHED' OR p.is_stopped OR drawn.quotas = 0
                OR COALESCE(v_now < p.sale_starts_at, false)
                -- LEAST passes over NULLs
                OR COALESCE(v_now >= LEAST(p.sale_ends_at, COALESCE(s.ends_at, v_event.ends_at)), false) AS is_closed
        FROM unnest(p_products, p_slots) WITH ORDINALITY AS place (product, slot, ord)
        LEFT JOIN ticketing_product p ON p.id = place.product AND p.event_id = v_event.id
        LEFT JOIN ticketing_slot s ON s.id = place.slot
        LEFT JOIN LATERAL (  -- a product is sold by slot where one of its quotas belongs to a slot
            SELECT count(*) AS quotas, bool_or(q.slot_id IS NOT NULL) AS has_slots,
                   COALESCE(bool_or(q.slot_id = place.slot), false) AS has_this_slot
            FROM ticketing_product_quotas pq JOIN ticketing_quota q ON q.id = pq.quota_id
            WHERE pq.product_id = p.id AND q.event_id = v_event.id
        ) AS drawn ON true
    ) AS facts;
    FOR l IN 1..cardinality(p_owners) LOOP
        i := p_owners[l];
        IF v_to[i] = 0 THEN
            v_from[i] := l;
        END IF;
        v_to[i] := l;
    END LOOP;

    IF v_has_codes THEN
        SELECT COALESCE(array_agg(id ORDER BY id), '{}'), COALESCE(array_agg(code ORDER BY id), '{}'),
               array_agg(CASE WHEN is_stopped OR v_now < starts_at OR v_now >= ends_at THEN 'not_valid_now' END
                         ORDER BY id),
               array_agg(max_uses_per_buyer ORDER BY id), array_agg(COALESCE(max_uses, c_no_limit) - uses ORDER BY id)
        INTO v_codes, v_code_names, v_code_states, v_code_mosts, v_code_before
        FROM reservations_promocode WHERE event_id = v_event.id AND code = ANY (p_codes);
        SELECT array_agg(
            CASE WHEN NOT EXISTS (SELECT FROM reservations_promocode_products s WHERE s.promocode_id = c.id)
                      OR EXISTS (SELECT FROM reservations_promocode_products s
                                 WHERE s.promocode_id = c.id AND s.product_id = p_products[place.at])
                 -- a percentage is rounded half up for one unit, so that equal tickets cost the same
                 THEN LEAST(v_prices[place.at],
                            COALESCE(c.amount_off_minor, (v_prices[place.at] * c.percent_off + 50) / 100))
            END ORDER BY c.id, place.at)
        INTO v_discounts
        FROM reservations_promocode c CROSS JOIN generate_series(1, cardinality(p_products)) AS place (at)
        WHERE c.id = ANY (v_codes);
    END IF;

    FOR i IN 1..n LOOP
        CONTINUE WHEN v_answers[i] IS NOT NULL;
        l := v_to[i];
        IF l = v_from[i] AND NOT v_has_codes AND v_mistakes[p_places[l]] IS NULL AND NOT v_closed[p_places[l]]
           AND p_quantities[l] <= v_most[p_places[l]] THEN
            v_is_pending[i] := true;  -- what a rush consists of: the next paragraphs have nothing to say
            CONTINUE;
        END IF;
        IF v_event.id IS NULL THEN
            v_answers[i] := '{"result": "unknown_event"}';
            CONTINUE;
        END IF;
        v_lines := NULL;
        FOR l IN v_from[i]..v_to[i] LOOP
            IF v_mistakes[p_places[l]] IS NOT NULL THEN
                v_lines := COALESCE(v_lines, '[]') || jsonb_build_object(
                    'line', l - v_from[i], 'field', split_part(v_mistakes[p_places[l]], ' ', 1),
                    'mistake', split_part(v_mistakes[p_places[l]], ' ', 2));
            END IF;
        END LOOP;
        IF v_lines IS NOT NULL THEN
            v_answers[i] := jsonb_build_object('result', 'invalid', 'mistakes', v_lines);
            CONTINUE;
        END IF;
        FOR l IN v_from[i]..v_to[i] LOOP
            IF v_closed[p_places[l]] THEN
                v_lines := COALESCE(v_lines, '[]') || jsonb_build_object(
                    'product', p_products[p_places[l]], 'slot', NULLIF(p_slots[p_places[l]], 0));
            END IF;
        END LOOP;
        IF v_lines IS NOT NULL THEN
            v_answers[i] := jsonb_build_object('result', 'not_on_sale', 'lines', v_lines);
            CONTINUE;
        END IF;
        IF v_from[i] = v_to[i] THEN
            v_is_short := p_quantities[v_to[i]] > v_most[p_places[v_to[i]]];
        ELSE
            v_is_short := EXISTS (
                SELECT FROM generate_series(v_from[i], v_to[i]) AS at
                GROUP BY p_products[p_places[at]] HAVING sum(p_quantities[at]) > min(v_most[p_places[at]]));
        END IF;
        IF v_is_short THEN
            SELECT jsonb_agg(jsonb_build_object('product', product, 'requested', quantity, 'max_per_order', most))
            INTO v_lines
            FROM (SELECT p_products[p_places[at]] AS product, sum(p_quantities[at]) AS quantity,
                         min(v_most[p_places[at]]) AS most
                  FROM generate_series(v_from[i], v_to[i]) AS at GROUP BY p_products[p_places[at]]) AS wanted
            WHERE quantity > most;
            v_answers[i] := jsonb_build_object('result', 'limit_exceeded', 'lines', v_lines);
            CONTINUE;
        END IF;
        IF p_codes[i] <> '' THEN
            v_code := COALESCE(array_position(v_code_names, p_codes[i]), 0);
            v_code_of[i] := v_code;
            v_is_short := true;  -- the code is for none of the lines
            FOR l IN v_from[i]..v_to[i] LOOP
                EXIT WHEN v_code = 0;
                IF v_discounts[(v_code - 1) * cardinality(p_products) + p_places[l]] IS NOT NULL THEN
                    v_is_short := false;
                END IF;
            END LOOP;
            IF v_code = 0 THEN
                v_answers[i] := '{"result": "code_invalid", "reason": "unknown"}';
            ELSIF v_code_states[v_code] IS NOT NULL THEN
                v_answers[i] := jsonb_build_object('result', 'code_invalid', 'reason', v_code_states[v_code]);
            ELSIF v_is_short THEN
                v_answers[i] := '{"result": "code_invalid", "reason": "not_for_these"}';
            ELSIF p_buyers[i] <> '' AND v_code_mosts[v_code] <= (
                SELECT count(*) FROM reservations_reservation r
                WHERE r.promo_code_id = v_codes[v_code] AND r.buyer_key = p_buyers[i]
                  AND (r.status IN ('ORDERED', 'CONFIRMED') OR (r.status = 'ACTIVE' AND r.expires_at > v_now))
            ) THEN
                v_answers[i] := '{"result": "code_used_up"}';
            END IF;
        END IF;
        v_is_pending[i] := v_answers[i] IS NULL;
    END LOOP;

    v_event_facts := jsonb_build_object(
        'currency', v_event.currency, 'extension_minutes', v_event.extension_minutes, 'prices', to_jsonb(v_prices));
    IF array_position(v_is_pending, true) IS NULL THEN
        RETURN v_event_facts || jsonb_build_object('answers', to_jsonb(v_answers));
    END IF;

    SELECT array_agg(place ORDER BY place, quota_id), array_agg(quota_id ORDER BY place, quota_id)
    INTO v_draw_places, v_draw_quotas
    FROM (
        SELECT place.ord AS place, q.id AS quota_id
        FROM unnest(p_products, p_slots) WITH ORDINALITY AS place (product, slot, ord)
        JOIN ticketing_product_quotas pq ON pq.product_id = place.product
        JOIN ticketing_quota q ON q.id = pq.quota_id AND (q.slot_id IS NULL OR q.slot_id = place.slot)
        WHERE q.event_id = v_event.id
    ) AS draws;
    FOR d IN 1..COALESCE(cardinality(v_draw_places), 0) LOOP
        v_place := v_draw_places[d];
        IF v_last[v_place] = 0 THEN
            v_first[v_place] := d;
        END IF;
        v_last[v_place] := d;
    END LOOP;

    -- 3
    SELECT array_agg(id ORDER BY id), array_agg(capacity - held - sold ORDER BY id) INTO v_quotas, v_before
    FROM ticketing_quota WHERE id = ANY (v_draw_quotas);
    FOR d IN 1..COALESCE(cardinality(v_draw_quotas), 0) LOOP
        v_draw_at[d] := array_position(v_quotas, v_draw_quotas[d]);
    END LOOP;
    SELECT array_agg(COALESCE(wanted, 0) ORDER BY at) INTO v_wanted FROM generate_series(1, cardinality(v_quotas)) AS at
    LEFT JOIN (
        SELECT draw.at, sum(asked.quantity)::int AS wanted
        FROM unnest(p_owners, p_places, p_quantities) AS asked (owner, place, quantity)
        JOIN unnest(v_draw_places, v_draw_at) AS draw (place, at) ON draw.place = asked.place
        WHERE v_is_pending[asked.owner] GROUP BY draw.at
    ) AS total USING (at);
    v_lock := v_quotas;
    v_lock_codes := v_codes;

    <<looks>>
    FOR v_look IN 1..2 LOOP
        IF v_look = 2 THEN
            -- 4
            IF v_lock_codes <> '{}' THEN
                PERFORM FROM reservations_promocode WHERE id = ANY (v_lock_codes) ORDER BY id FOR NO KEY UPDATE;
            END IF;
            PERFORM FROM ticketing_quota WHERE id = ANY (v_lock) ORDER BY id FOR NO KEY UPDATE;
            -- 5
            IF v_over IS NOT NULL THEN
                PERFORM reservations_end(v_over, 'ACTIVE', 'EXPIRED', 'buyer', 'taken back by the next buyer');
            END IF;
            SELECT array_agg(capacity - held - sold ORDER BY id) INTO v_before
            FROM ticketing_quota WHERE id = ANY (v_quotas);
            IF v_codes <> '{}' THEN
                SELECT array_agg(COALESCE(max_uses, c_no_limit) - uses ORDER BY id) INTO v_code_before
                FROM reservations_promocode WHERE id = ANY (v_codes);
            END IF;
        END IF;
        v_all_fit := NOT v_has_codes AND NOT EXISTS (
            SELECT FROM unnest(v_wanted, v_before) AS total (wanted, free) WHERE wanted > free);
        IF v_all_fit THEN  -- one by one would give the same
            v_is_granted := v_is_pending;
            v_granted := cardinality(array_positions(v_is_pending, true));
            v_refused := 0;
            SELECT array_agg(free - wanted ORDER BY at) INTO v_free
            FROM unnest(v_wanted, v_before) WITH ORDINALITY AS total (wanted, free, at);
            CONTINUE;
        END IF;
        v_free := v_before;
        v_code_left := v_code_before;
        v_granted := 0;
        v_refused := 0;
        v_short_quotas := '{}';
        v_short_codes := '{}';
        FOR i IN 1..n LOOP
            CONTINUE WHEN NOT v_is_pending[i];
            v_is_short := false;
            FOR l IN v_from[i]..v_to[i] LOOP
                FOR d IN v_first[p_places[l]]..v_last[p_places[l]] LOOP
                    v_free[v_draw_at[d]] := v_free[v_draw_at[d]] - p_quantities[l];
                    v_is_short := v_is_short OR v_free[v_draw_at[d]] < 0;
                END LOOP;
            END LOOP;
            v_is_granted[i] := NOT v_is_short AND (v_code_of[i] = 0 OR v_code_left[v_code_of[i]] > 0);
            IF v_is_granted[i] THEN
                v_granted := v_granted + 1;
                v_answers[i] := NULL;
                IF v_code_of[i] > 0 THEN
                    v_code_left[v_code_of[i]] := v_code_left[v_code_of[i]] - 1;
                END IF;
                CONTINUE;
            END IF;
            v_refused := v_refused + 1;
            v_short_lines := '{}';
            FOR l IN v_from[i]..v_to[i] LOOP
                FOR d IN v_first[p_places[l]]..v_last[p_places[l]] LOOP
                    IF v_free[v_draw_at[d]] < 0 THEN
                        v_short_lines := v_short_lines || l;
                        v_short_quotas := v_short_quotas || v_quotas[v_draw_at[d]];
                    END IF;
                END LOOP;
            END LOOP;
            FOR l IN v_from[i]..v_to[i] LOOP
                FOR d IN v_first[p_places[l]]..v_last[p_places[l]] LOOP
                    v_free[v_draw_at[d]] := v_free[v_draw_at[d]] + p_quantities[l];
                END LOOP;
            END LOOP;
            IF NOT v_is_short THEN
                v_answers[i] := '{"result": "code_used_up"}';
                v_short_codes := v_short_codes || v_codes[v_code_of[i]];
                CONTINUE;
            END IF;
            v_lines := '[]';
            FOR l IN SELECT DISTINCT at FROM unnest(v_short_lines) AS at ORDER BY at LOOP
                v_available := c_no_limit;
                FOR d IN v_first[p_places[l]]..v_last[p_places[l]] LOOP
                    v_available := LEAST(v_available, v_free[v_draw_at[d]]);
                END LOOP;
                v_lines := v_lines || jsonb_build_object(
                    'product', p_products[p_places[l]], 'slot', NULLIF(p_slots[p_places[l]], 0),
                    'requested', p_quantities[l], 'available', GREATEST(v_available, 0));
            END LOOP;
            v_answers[i] := jsonb_build_object('result', 'sold_out', 'lines', v_lines);
        END LOOP;

        IF v_look = 1 THEN
            IF v_refused > 0 THEN
                SELECT array_agg(id) INTO v_over FROM (
                    SELECT r.id FROM reservations_reservation r
                    WHERE r.event_id = v_event.id AND r.status = 'ACTIVE' AND r.expires_at <= v_now
                      AND (r.promo_code_id = ANY (v_short_codes) OR EXISTS (
                          SELECT FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
                          WHERE rl.reservation_id = r.id AND c.quota_id = ANY (v_short_quotas)))
                    ORDER BY r.expires_at LIMIT c_take_back FOR NO KEY UPDATE OF r SKIP LOCKED
                ) AS due;
                EXIT looks WHEN v_over IS NULL AND v_granted = 0;  -- nothing to give, nothing to give back
            END IF;
            IF v_over IS NOT NULL THEN
                SELECT array_agg(DISTINCT quota_id) INTO v_lock FROM (
                    SELECT unnest(v_quotas) AS quota_id
                    UNION ALL
                    SELECT c.quota_id FROM reservations_reservationline rl JOIN reservations_claim c ON c.line_id = rl.id
                    WHERE rl.reservation_id = ANY (v_over)
                ) AS together;
                SELECT COALESCE(array_agg(DISTINCT code_id), '{}') INTO v_lock_codes FROM (
                    SELECT unnest(v_codes) AS code_id
                    UNION ALL
                    SELECT promo_code_id FROM reservations_reservation
                    WHERE id = ANY (v_over) AND promo_code_id IS NOT NULL
                ) AS together;
            END IF;
        END IF;
    END LOOP;
    IF v_refused > 0 THEN
        v_are_quotas_returning := reservations_is_returning(v_event.id, v_short_quotas, '{}');
        v_are_codes_returning := v_short_codes <> '{}' AND reservations_is_returning(v_event.id, '{}', v_short_codes);
        FOR i IN 1..n LOOP
            IF v_is_pending[i] AND NOT v_is_granted[i] AND (
                   (v_are_quotas_returning AND v_answers[i] ->> 'result' = 'sold_out')
                   OR (v_are_codes_returning AND v_answers[i] ->> 'result' = 'code_used_up')) THEN
                v_answers[i] := jsonb_build_object('result', 'retry', 'otherwise', v_answers[i]);
            END IF;
        END LOOP;
    END IF;

    -- 6
    IF v_granted > 0 THEN
        FOR d IN 1..cardinality(v_quotas) LOOP
            v_taken[d] := v_before[d] - v_free[d];
        END LOOP;
        IF v_codes <> '{}' THEN
            UPDATE reservations_promocode AS c SET uses = c.uses + taken.before - taken.left_over
            FROM unnest(v_codes, v_code_before, v_code_left) AS taken (id, before, left_over)
            WHERE c.id = taken.id AND taken.before <> taken.left_over;
        END IF;
        PERFORM ticketing_move_stock(
            array_agg(id), array_agg(quantity), array_fill(0, ARRAY[count(*)::int]))
        FROM unnest(v_quotas, v_taken) AS taken (id, quantity) WHERE quantity <> 0;
        v_now := clock_timestamp();
        v_until := v_now + make_interval(mins => v_event.hold_window_minutes);
        INSERT INTO reservations_reservation
            (id, event_id, status, buyer_key, promo_code_id, currency, created_at, expires_at)
        SELECT asked.id, v_event.id, 'ACTIVE', asked.buyer, NULLIF(v_codes[asked.code], 0), v_event.currency,
               v_now, v_until
        FROM unnest(p_ids, p_buyers, v_code_of, v_is_granted) AS asked (id, buyer, code, is_granted)
        WHERE is_granted;
        WITH line AS (
            INSERT INTO reservations_reservationline
                (reservation_id, product_id, slot_id, quantity, unit_price_minor, discount_minor)
            SELECT p_ids[asked.owner], p_products[asked.place], NULLIF(p_slots[asked.place], 0), asked.quantity,
                   v_prices[asked.place], asked.quantity * COALESCE(
                       v_discounts[(v_code_of[asked.owner] - 1) * cardinality(p_products) + asked.place], 0)
            FROM unnest(p_owners, p_places, p_quantities) WITH ORDINALITY AS asked (owner, place, quantity, ord)
            WHERE v_is_granted[asked.owner] ORDER BY asked.ord
            RETURNING id, product_id, slot_id, quantity
        )
        INSERT INTO reservations_claim (line_id, quota_id, quantity)
        SELECT line.id, draw.quota_id, line.quantity
        FROM line
        JOIN unnest(p_products, p_slots) WITH ORDINALITY AS place (product, slot, at)
            ON place.product = line.product_id AND place.slot = COALESCE(line.slot_id, 0)
        JOIN unnest(v_draw_places, v_draw_quotas) AS draw (place, quota_id) ON draw.place = place.at;
        IF v_has_keys THEN
            INSERT INTO reservations_reservationkey (key, request_hash, reservation_id, created_at)
            SELECT asked.key, asked.hash, asked.id, v_now
            FROM unnest(p_keys, p_hashes, p_ids, v_is_granted) AS asked (key, hash, id, is_granted)
            WHERE is_granted AND key IS NOT NULL
            ON CONFLICT (key) DO UPDATE SET reservation_id = EXCLUDED.reservation_id, created_at = EXCLUDED.created_at;
        END IF;
        FOR i IN 1..n LOOP
            IF NOT v_is_granted[i] THEN
                CONTINUE;
            ELSIF v_code_of[i] = 0 THEN
                v_answers[i] := c_granted;
            ELSE
                v_answers[i] := c_granted || jsonb_build_object('discounts', (
                    SELECT jsonb_agg(COALESCE(
                        v_discounts[(v_code_of[i] - 1) * cardinality(p_products) + p_places[at]], 0) ORDER BY at)
                    FROM generate_series(v_from[i], v_to[i]) AS at));
            END IF;
        END LOOP;
    END IF;
    RETURN v_event_facts || jsonb_build_object('answers', to_jsonb(v_answers), 'now', v_now, 'until', v_until);
END $$;
