"""PF2, PF5, PF6: throughput of the product's real endpoints beside an empty view, many connections kept open."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.bench import wire
from deploy.bench.catalogue import Sale, new_sale
from deploy.bench.office import Office, Pair
from deploy.bench.report import Row, judged
from deploy.bench.stack import get
from ticketing.models import Quota


def holds(office: Office) -> Sequence[Row]:
    office.fresh_start()
    sale = new_sale()
    nothing = office.job(office.empty, office.nothing(sale))
    pair = office.in_turn(office.job(office.product, office.hold(sale)), nothing)
    wrong = [*_books(sale, pair), *_wrong(pair, 201)]
    rows = [_throughput("PF2", pair, is_sound=not wrong, notes=[pair.p99(), *wrong])]
    office.say(f"PF2: {rows[0].measured} beside {rows[0].yardstick}")

    keyed = office.in_turn(office.job(office.product, office.hold(new_sale(), has_key=True)), nothing, rounds=1)
    rows.append(_throughput("PF2.key", keyed, notes=_wrong(keyed, 201)))
    behind = wire.request("POST", "/empty/", host=office.middlewares.host, body=sale.body)
    dressed = office.in_turn(office.job(office.middlewares, behind), nothing, rounds=1)
    rows.append(_throughput("PF2.middleware", dressed, notes=_wrong(dressed, 200)))
    return rows


def sold_out(office: Office) -> Sequence[Row]:
    office.fresh_start()
    rows = []
    for row_id, has_key, rounds in (("PF5", False, office.size.rounds), ("PF5.key", True, 1)):
        sale = new_sale(capacity=0)
        asked = office.job(office.product, office.hold(sale, has_key=has_key))
        pair = office.in_turn(asked, office.job(office.empty, office.nothing(sale)), rounds=rounds)
        wrong = _wrong(pair, 409)
        rows.append(_throughput(row_id, pair, is_sound=not wrong, notes=[pair.p99(), *wrong]))
    return rows


def availability(office: Office) -> Sequence[Row]:
    office.fresh_start()
    sale = new_sale()
    path = f"/api/v1/events/{sale.slug}/availability/"
    etag = get(office.product.port, path)[1]["etag"]
    plain = wire.request("GET", path, host=office.product.host)
    conditional = wire.request("GET", path, host=office.product.host, headers={"If-None-Match": etag})
    empty = wire.request("GET", "/empty/", host=office.empty.host)
    pair = office.in_turn(office.job(office.product, plain, conditional), office.job(office.empty, empty))
    wrong = _wrong(pair, 200, 304)
    mixed = f"{pair.count(200):,} × 200, {pair.count(304):,} × 304"
    is_mixed = 0.4 < pair.count(304) / max(1, pair.count(200) + pair.count(304)) < 0.6
    return [_throughput("PF6", pair, is_sound=is_mixed and not wrong, notes=[pair.p99(), mixed, *wrong])]


def _throughput(row_id: str, pair: Pair, *, notes: Sequence[str], is_sound: bool = True) -> Row:
    numbers = {
        side: [outcome.per_second for outcome in outcomes]
        for side, outcomes in (("product", pair.product), ("empty", pair.empty))
    }
    return judged(
        row_id,
        pair.ratio,
        f"{pair.product_per_second:,.0f}/s",
        is_sound=is_sound,
        yardstick=f"{pair.empty_per_second:,.0f}/s",
        ratio=pair.ratio,
        notes=(*notes, f"without what the load itself costs, {pair.ratio_without_client:.2f} ×"),
        numbers=numbers,
    )


def _wrong(pair: Pair, *expected: int) -> list[str]:
    """A fast error is no success: what else was answered, in words."""
    if not pair.unexpected(*expected):
        return []
    return [f"WRONG ANSWERS: {outcome.answers()}" for outcome in pair.product if outcome.unexpected(*expected)]


def _books(sale: Sale, pair: Pair) -> list[str]:
    """Every hold that was promised must stand in the database (more may: those of the warm-up)."""
    held = Quota.objects.get(pk=sale.quota).held
    promised = pair.count(201)
    return [] if held >= promised else [f"LOST HOLDS: {promised} were promised, {held} are there"]
