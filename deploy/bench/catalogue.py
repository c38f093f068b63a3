"""Events to sell, and the past they may have: written to the bench's own database."""

from __future__ import annotations

import itertools
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from django.utils import timezone

from ticketing.models import Event, Organiser, Product, Quota

PLENTY = 2_000_000_000
_turn = itertools.count(1)


@dataclass(frozen=True)
class Sale:
    """One event with one product that draws on one quota."""

    event: int
    slug: str
    product: int
    quota: int

    @property
    def body(self) -> bytes:
        """A buyer's wish for one."""
        wish = {"event": self.slug, "lines": [{"product": self.product, "quantity": 1}]}
        return json.dumps(wish).encode()


def new_sale(*, capacity: int = PLENTY) -> Sale:
    number = next(_turn)
    organiser, _ = Organiser.objects.get_or_create(slug="bench", defaults={"name": "Bench"})
    tomorrow = timezone.now() + timedelta(days=1)
    event = Event.objects.create(
        organiser=organiser,
        name=f"Rush {number}",
        slug=f"rush-{number}-{uuid.uuid4().hex[:8]}",
        status=Event.Status.PUBLISHED,
        starts_at=tomorrow,
        ends_at=tomorrow + timedelta(hours=3),
    )
    quota = Quota.objects.create(event=event, name="Places", capacity=capacity)
    product = Product.objects.create(event=event, name="Admission", price_minor=2500)
    product.quotas.set([quota])
    return Sale(event.pk, event.slug, product.pk, quota.pk)


def forget_holds(database: psycopg.Connection) -> None:
    """Each row begins with empty tables, so that none pays for the rows before it, and with no checkpoint due."""
    database.execute("TRUNCATE reservations_reservation CASCADE")
    database.execute("UPDATE ticketing_quota SET held = 0, sold = 0")
    database.execute("CHECKPOINT")


def add_past_holds(database: psycopg.Connection, sale: Sale, count: int) -> None:
    """Holds that ended in the last days, released and expired in turn, with their lines and claims."""
    _add_holds(
        database,
        sale,
        count,
        columns="status, created_at, expires_at, ended_at",
        values="CASE n %% 2 WHEN 0 THEN 'RELEASED' ELSE 'EXPIRED' END,"
        " now() - interval '30 min' - n %% 100000 * interval '1 s', now() - interval '15 min' - n %% 100000 * interval '1 s',"
        " now() - interval '15 min' - n %% 100000 * interval '1 s'",
    )


def add_expired_holds(database: psycopg.Connection, sale: Sale, count: int) -> None:
    """Holds whose time is over and that nobody has taken back: they still count as held."""
    _add_holds(
        database,
        sale,
        count,
        columns="status, created_at, expires_at",
        values="'ACTIVE', now() - interval '30 min', now() - interval '2 min' - n %% 600 * interval '1 s'",
    )
    database.execute("UPDATE ticketing_quota SET held = held + %s WHERE id = %s", [count, sale.quota])


def _add_holds(database: psycopg.Connection, sale: Sale, count: int, *, columns: str, values: str) -> None:
    query = f"""
        WITH hold AS (
            INSERT INTO reservations_reservation (id, event_id, buyer_key, currency, {columns})
            SELECT gen_random_uuid(), %(event)s, '', 'EUR', {values} FROM generate_series(1, %(count)s) AS n
            RETURNING id
        ), line AS (
            INSERT INTO reservations_reservationline
                (reservation_id, product_id, quantity, unit_price_minor, discount_minor)
            SELECT id, %(product)s, 1, 2500, 0 FROM hold RETURNING id
        )
        INSERT INTO reservations_claim (line_id, quota_id, quantity) SELECT id, %(quota)s, 1 FROM line
        """  # noqa: S608 - nothing but this module's own words
    names = {"event": sale.event, "product": sale.product, "quota": sale.quota, "count": count}
    with database.transaction():
        # A million rows of our own making: asking for each foreign key whether its row is there would take minutes.
        database.execute("SET LOCAL session_replication_role = replica")
        database.execute(query, names)
    tables = "reservations_reservation, reservations_reservationline, reservations_claim"
    database.execute(f"VACUUM (ANALYZE) {tables}")
    database.execute("CHECKPOINT")
