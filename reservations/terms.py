"""The terms of a hold: what a buyer wants, and what was granted."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from config.money import Money


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of a request. `slot_id` is None for products that are not sold by slot."""

    product_id: int
    slot_id: int | None
    quantity: int


@dataclass(frozen=True, slots=True)
class HeldLine:
    product_id: int
    slot_id: int | None
    quantity: int
    unit_price: Money
    discount: Money

    @property
    def total(self) -> Money:
        return Money(
            self.unit_price.amount_minor * self.quantity - self.discount.amount_minor, self.unit_price.currency
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation as its buyer sees it, read by the database's clock at `server_time`."""

    id: uuid.UUID
    event_slug: str
    status: str  # an ACTIVE one past its time reads EXPIRED here: it no longer counts
    currency: str
    expires_at: datetime
    server_time: datetime
    is_live: bool
    can_extend: bool
    is_time_fixed: bool  # being paid where no clock of ours is seen
    extension_minutes: int
    promo_code: str  # empty: none
    lines: list[HeldLine]

    @property
    def total(self) -> Money:
        return sum((line.total for line in self.lines), Money(0, self.currency))

    @property
    def discount(self) -> Money:
        return sum((line.discount for line in self.lines), Money(0, self.currency))
