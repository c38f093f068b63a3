CREATE OR REPLACE FUNCTION reservations_describe(p_id uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
-- One reservation with its lines as pages and API need it; NULL when there is none. "is_over" is decided by this
-- database's clock, now.
SELECT jsonb_build_object(
    'id', r.id,
    'event_slug', e.slug,
    'status', r.status,
    'currency', r.currency,
    'promo_code', COALESCE(c.code, ''),
    'expires_at', r.expires_at,
    'server_time', clock_timestamp(),
    'is_over', r.expires_at <= clock_timestamp(),
    'is_extended', r.extended_at IS NOT NULL,
    'is_time_fixed', r.is_time_fixed,
    'extension_minutes', e.extension_minutes,
    'lines', (
        SELECT jsonb_agg(jsonb_build_object(
            'product', l.product_id, 'slot', l.slot_id, 'quantity', l.quantity,
            'unit_price_minor', l.unit_price_minor, 'discount_minor', l.discount_minor) ORDER BY l.id)
        FROM reservations_reservationline l WHERE l.reservation_id = r.id))
FROM reservations_reservation r JOIN ticketing_event e ON e.id = r.event_id
LEFT JOIN reservations_promocode c ON c.id = r.promo_code_id
WHERE r.id = p_id
$$;
