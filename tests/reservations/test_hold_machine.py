"""A model of the stock in plain Python, and PostgreSQL beside it: whatever buyers, staff and clock do, both say the same.

Hypothesis plays; each step predicts its answer from the model, and after each step the books are compared. Everything
happens inside one transaction that is rolled back, so every play begins with the same world.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from config.state_machine import MoveRefused
from reservations import availability, holds, orders, placement, purge, recount
from reservations.models import Order, PromoCode, Reservation
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory, QuotaFactory, SlotFactory
from tests.purchases import end_time
from ticketing import quotas
from ticketing.models import Event, Product, Quota, Ticket

NOBODYS = 2**40  # the id of no product and no slot
BROWSERS = ("ada's browser", "bob's browser")
KEYS = ("a key of 16 letters", "another key, as long")

Place = tuple[int, int | None]


# --- the model -------------------------------------------------------------------------------------------------------


@dataclass
class ModelQuota:
    capacity: int
    slot: int | None


@dataclass
class ModelProduct:
    price: int
    most: int
    quotas: set[int]
    is_stopped: bool = False


@dataclass
class ModelCode:
    percent: int | None
    amount: int | None
    scope: set[int]  # empty: all
    most: int | None
    most_per_buyer: int | None
    is_stopped: bool = False

    def off(self, product: int, price: int) -> int | None:
        """Off one unit; None: not for this product."""
        if self.scope and product not in self.scope:
            return None
        off = self.amount if self.percent is None else (2 * price * self.percent + 100) // 200
        return min(price, off or 0)


@dataclass
class ModelHold:
    """`status` is what a buyer is told: an ACTIVE one that is over counts as ended, whoever has noticed."""

    lines: dict[Place, tuple[int, int, int]]  # quantity, price of a unit, discount of the line
    claims: Counter[int]
    buyer: str
    code: str
    expires_at: datetime
    status: str = "ACTIVE"
    is_over: bool = False
    is_extended: bool = False
    order: str = ""  # its status
    email: str = ""

    @property
    def told(self) -> str:
        return "EXPIRED" if self.status == "ACTIVE" and self.is_over else self.status

    @property
    def counts(self) -> bool:
        return self.told in ("ACTIVE", "ORDERED", "CONFIRMED")

    @property
    def is_live(self) -> bool:
        return self.told in ("ACTIVE", "ORDERED") and not self.is_over

    @property
    def total(self) -> int:
        return sum(quantity * price - discount for quantity, price, discount in self.lines.values())


@dataclass
class Model:
    quotas: dict[int, ModelQuota]
    products: dict[int, ModelProduct]
    codes: dict[str, ModelCode]
    is_cancelled: bool = False
    holds: dict[UUID, ModelHold] = field(default_factory=dict)
    keys: dict[str, tuple[Any, UUID]] = field(default_factory=dict)  # key: what it was used for, and by which hold

    def free(self, quota: int) -> int:
        return self.quotas[quota].capacity - sum(hold.claims[quota] for hold in self.holds.values() if hold.counts)

    def draws(self, place: Place) -> list[int]:
        product, slot = place
        return [at for at in self.products[product].quotas if self.quotas[at].slot in (None, slot)]

    def slots_of(self, product: int) -> set[int]:
        slots = {self.quotas[at].slot for at in self.products[product].quotas} if product in self.products else set()
        return {slot for slot in slots if slot is not None}

    def is_closed(self, product: int) -> bool:
        known = self.products[product]
        return self.is_cancelled or known.is_stopped or not known.quotas

    def available(self, place: Place) -> int:
        return max(0, min((self.free(at) for at in self.draws(place)), default=0))

    def uses(self, code: str) -> int:
        return sum(hold.counts for hold in self.holds.values() if hold.code == code)

    def hold_of(self, buyer: str) -> UUID | None:
        """The one ACTIVE hold of a browser."""
        found = [at for at, hold in self.holds.items() if buyer and hold.buyer == buyer and hold.told == "ACTIVE"]
        assert len(found) <= 1
        return found[0] if found else None

    def answer(self, wish: dict[Place, int], key: str | None, buyer: str, code: str) -> Any:
        """What `reserve` must say: ("granted",), ("found", id) or (name of the refusal, its facts)."""
        if key in self.keys:
            used_for, found = self.keys[key]
            if used_for != (wish, code):
                return ("KeyReused",)
            if self.holds[found].told in ("ACTIVE", "ORDERED", "CONFIRMED"):
                return "found", found
        if joined := self.hold_of(buyer):
            return "found", joined
        return self._refusal(wish, buyer, code) or ("granted",)

    def _refusal(self, wish: dict[Place, int], buyer: str, code: str) -> Any:
        if mistakes := [(at, *found) for at, place in enumerate(wish) if (found := self._mistake(place))]:
            return "InvalidLines", mistakes
        if closed := [place for place in wish if self.is_closed(place[0])]:
            return "NotOnSale", closed
        asked = Counter[int]()
        for (product, _slot), quantity in wish.items():
            asked[product] += quantity
        if too_many := {at: (n, self.products[at].most) for at, n in asked.items() if n > self.products[at].most}:
            return "LimitExceeded", too_many
        if code and (wrong := self._wrong_code(wish, buyer, code)):
            return wrong
        wanted = Counter[int]()
        for place, quantity in wish.items():
            for at in self.draws(place):
                wanted[at] += quantity
        short = {at for at, quantity in wanted.items() if quantity > self.free(at)}
        if short:
            lines = [(place, n, self.available(place)) for place, n in wish.items() if short & set(self.draws(place))]
            return "SoldOut", lines
        most = self.codes[code].most if code else None
        return ("PromoCodeUsedUp",) if most is not None and self.uses(code) >= most else None

    def _mistake(self, place: Place) -> tuple[str, str] | None:
        product, slot = place
        if product not in self.products:
            return "product", "unknown"
        if slot is None:
            return ("slot", "required") if self.slots_of(product) else None
        return None if slot in self.slots_of(product) else ("slot", "unknown")

    def _wrong_code(self, wish: dict[Place, int], buyer: str, code: str) -> Any:
        if code not in self.codes:
            return "InvalidPromoCode", "unknown"
        known = self.codes[code]
        if known.is_stopped:
            return "InvalidPromoCode", "not_valid_now"
        if all(known.off(product, 0) is None for product, _slot in wish):
            return "InvalidPromoCode", "not_for_these"
        used = sum(hold.counts for hold in self.holds.values() if (hold.code, hold.buyer) == (code, buyer))
        if buyer and known.most_per_buyer is not None and used >= known.most_per_buyer:
            return ("PromoCodeUsedUp",)
        return None

    def take(self, at: UUID, wish: dict[Place, int], buyer: str, code: str, expires_at: datetime) -> ModelHold:
        lines, claims = {}, Counter[int]()
        for (product, slot), quantity in wish.items():
            price = self.products[product].price
            off = self.codes[code].off(product, price) if code else None
            lines[product, slot] = (quantity, price, quantity * (off or 0))
            for quota in self.draws((product, slot)):
                claims[quota] += quantity
        self.holds[at] = ModelHold(lines, claims, buyer, code, expires_at)
        return self.holds[at]


# --- the world it models ---------------------------------------------------------------------------------------------


@dataclass
class World:
    event: Event
    model: Callable[[], Model]
    quotas: list[int]
    products: list[int]
    slots: list[int]
    codes: list[str]


def make_world() -> World:
    """Five quotas, two of them of slots; products that share them; a code that runs out and one that each may use once."""
    event = EventFactory()
    slots = [SlotFactory(event=event) for _ in range(2)]
    hall, stalls, box = (QuotaFactory(event=event, capacity=capacity) for capacity in (8, 3, 4))
    by_slot = [QuotaFactory(event=event, slot=slot, capacity=2) for slot in slots]
    adult = ProductFactory(event=event, quotas=[stalls, hall], price_minor=1999, max_per_order=3)
    child = ProductFactory(event=event, quotas=[stalls], price_minor=5, max_per_order=4)
    vip = ProductFactory(event=event, quotas=[box, hall], price_minor=10_000, max_per_order=2)
    lesson = ProductFactory(event=event, quotas=[*by_slot, hall], price_minor=333, max_per_order=2)
    ten = PromoCodeFactory(event=event, code="TEN", max_uses=2)
    each = PromoCodeFactory(event=event, code="EACH", percent_off=None, amount_off_minor=400, once_each=True)
    each.products.set([child, lesson])

    def model() -> Model:
        return Model(
            {quota.pk: ModelQuota(quota.capacity, quota.slot_id) for quota in (hall, stalls, box, *by_slot)},
            {
                adult.pk: ModelProduct(1999, 3, {stalls.pk, hall.pk}),
                child.pk: ModelProduct(5, 4, {stalls.pk}),
                vip.pk: ModelProduct(10_000, 2, {box.pk, hall.pk}),
                lesson.pk: ModelProduct(333, 2, {*(quota.pk for quota in by_slot), hall.pk}),
            },
            {
                ten.code: ModelCode(10, None, set(), 2, None),
                each.code: ModelCode(None, 400, {child.pk, lesson.pk}, None, 1),
            },
        )

    return World(
        event,
        model,
        quotas=[quota.pk for quota in (hall, stalls, box, *by_slot)],
        products=[product.pk for product in (adult, child, vip, lesson)],
        slots=[slot.pk for slot in slots],
        codes=["TEN", "EACH"],
    )


_PRODUCT, _QUOTA = st.integers(0, 3), st.integers(0, 4)
_BUYER = st.sampled_from(["", "", *BROWSERS])
_CODE = st.sampled_from(["", "", "TEN", "TEN", "EACH", "EACH", "NOPE"])
# Mostly what can be granted: one or two known products, at a slot where they have slots.
_KEY = st.sampled_from(KEYS)
_LINE = st.tuples(_PRODUCT, st.sampled_from([0, 1]), st.integers(1, 2))
_WISH = st.tuples(st.lists(_LINE, min_size=1, max_size=2), _BUYER, _CODE)
_ODD_LINE = st.tuples(st.integers(0, 4), st.sampled_from([None, 0, 1, 2]), st.integers(1, 4))


class OfficeMachine(RuleBasedStateMachine):
    """Each rule does one thing to the database and to the model, and compares what was said."""

    world: World  # set by the test
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.model = self.world.model()
        self.asked: dict[str, Any] = {}

    def teardown(self) -> None:
        try:
            assert list(recount.differing(event_id=self.world.event.pk)) == []
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    # --- buyers

    @initialize(target=held, wishes=st.lists(_WISH, min_size=3, max_size=6))
    def open_the_sale(self, wishes: list[Any]) -> Any:
        return self.rush(wishes)

    @rule(target=held, wishes=st.lists(_WISH, min_size=1, max_size=5))
    def rush(self, wishes: list[Any]) -> Any:
        """Ordinary buyers, one after the other."""
        return multiple(*(at for lines, buyer, code in wishes for at in self._reserve(lines, None, buyer, code)))

    @rule(target=held, lines=st.lists(_ODD_LINE, min_size=1, max_size=2), buyer=_BUYER, code=_CODE)
    def ask_oddly(self, lines: list[Any], buyer: str, code: str) -> Any:
        """Slots that are missing, wrong or nobody's; products nobody sells; far too many."""
        return multiple(*self._reserve(lines, None, buyer, code))

    @rule(target=held, wish=_WISH, key=_KEY, times=st.integers(1, 2))
    def ask_with_a_key(self, wish: Any, key: str, times: int) -> Any:
        lines, buyer, code = wish
        self.asked[key] = (lines, key, buyer, code)
        return multiple(*(at for _ in range(times) for at in self._reserve(*self.asked[key])))

    @rule(target=held, key=_KEY, buyer=_BUYER)
    def ask_again(self, key: str, buyer: str) -> Any:
        """What this key was last used for, perhaps from another browser."""
        if key not in self.asked:
            return multiple()
        lines, _key, _buyer, code = self.asked[key]
        return multiple(*self._reserve(lines, key, buyer, code))

    def _reserve(self, lines: list[Any], key: str | None, buyer: str, code: str) -> list[UUID]:
        """The new hold's id, if it is granted."""
        wanted = [holds.Wanted(self._product(at), self._slot(slot, at), quantity) for at, slot, quantity in lines]
        wish = {(line.product_id, line.slot_id): line.quantity for line in holds._merged(wanted)}
        expected = self.model.answer(wish, key, buyer, code)
        try:
            found, was_there = holds.reserve(
                self.world.event.slug, lines=wanted, key=key, buyer_key=buyer, promo_code=code
            )
        except Exception as refusal:
            assert (type(refusal).__name__, *_facts(refusal)) == expected
            return []
        if was_there:
            assert expected == ("found", found.id)
            self._compare(found, self.model.holds[found.id])
            return []
        assert expected == ("granted",)
        self._compare(found, self.model.take(found.id, wish, buyer, code, found.expires_at))
        assert found.expires_at - found.server_time == timedelta(minutes=15)
        if key:
            self.model.keys[key] = ((wish, code), found.id)
        return [found.id]

    @rule(at=held)
    def extend(self, at: UUID) -> None:
        hold = self.model.holds.get(at)
        expected = None
        if hold and not (hold.is_live and not hold.is_extended):
            expected = "already_extended" if hold.is_live else "ended"
            expected = "not_extendable" if hold.status == "CONFIRMED" else expected
        try:
            found = holds.extend(at)
        except holds.NotExtendable as refusal:
            assert refusal.code == expected
            return
        assert expected is None
        if hold:
            hold.expires_at += timedelta(minutes=10)
            hold.is_extended = True
            assert found.expires_at == hold.expires_at
        else:
            assert found is None

    @rule(at=held)
    def release(self, at: UUID) -> None:
        hold = self.model.holds.get(at)
        try:
            is_released = holds.release(at)
        except holds.NotReleasable as refusal:
            assert refusal.status == hold.status
            assert hold.status in ("ORDERED", "CONFIRMED")
            return
        assert is_released is (hold is not None)
        if hold:
            assert hold.status not in ("ORDERED", "CONFIRMED")
            if hold.status == "ACTIVE":
                hold.status = "EXPIRED" if hold.is_over else "RELEASED"

    @rule(at=held, email=st.sampled_from(["ada@example.org", "Ada@Example.org", "bob@example.org"]))
    def order(self, at: UUID, email: str) -> None:
        """Checks out; again, it corrects the address while the order is unpaid."""
        hold = self.model.holds.get(at)
        expected = self._refusal_of_order(hold, at, email)
        try:
            with transaction.atomic():
                order, is_new = placement.place(at, email=email, name="Ada Lovelace")
        except (placement.NoSuchReservation, placement.HoldEnded, holds.PromoCodeUsedUp) as refusal:
            assert type(refusal).__name__ == expected
            return
        assert expected is None
        assert is_new == (hold.order == "")
        assert order.total_minor == hold.total
        if is_new:
            hold.status, hold.order = "ORDERED", "AWAITING_PAYMENT"
        if hold.order == "AWAITING_PAYMENT":
            hold.email = email
        assert order.email == hold.email

    def _refusal_of_order(self, hold: ModelHold | None, at: UUID, email: str) -> str | None:
        if hold is None:
            return "NoSuchReservation"
        if hold.told not in ("ACTIVE", "ORDERED", "CONFIRMED"):
            return "HoldEnded"
        may_change = hold.told == "ACTIVE" or (hold.told == "ORDERED" and hold.email != email)
        most = self.model.codes[hold.code].most_per_buyer if hold.code else None
        if most is None or not may_change:
            return None
        others = [
            other
            for key, other in self.model.holds.items()
            if key != at and other.code == hold.code and other.email.lower() == email.lower()
        ]
        used = sum(other.order in ("AWAITING_PAYMENT", "PAID") for other in others)
        return "PromoCodeUsedUp" if used >= most else None

    # --- payments

    @rule(at=held, to=st.sampled_from(["CONFIRMED", "EXPIRED", "RELEASED"]))
    def settle(self, at: UUID, to: str) -> None:
        """It is paid, or it will not be."""
        if to == "CONFIRMED":
            self._settle(at, to, "PAID", lambda order: orders.confirm(order, by="test", why="paid"))
        else:
            self._settle(at, to, "CANCELLED", lambda order: orders.cancel(order, to=to, by="test", why="not paid"))

    def _settle(self, at: UUID, status: str, order: str, settle: Callable[[Order], None]) -> None:
        """Only an order that awaits its payment becomes paid or cancelled, once."""
        hold = self.model.holds.get(at)
        if hold is None or not hold.order:
            return
        try:
            with transaction.atomic():
                settle(orders.lock(Order.objects.values_list("pk", flat=True).get(reservation=at)))
        except MoveRefused:
            assert hold.order != "AWAITING_PAYMENT"
            return
        assert hold.order == "AWAITING_PAYMENT"
        hold.status, hold.order = status, order

    @rule(buyer=st.sampled_from(["", *BROWSERS]))
    def look(self, buyer: str) -> None:
        """What this browser holds or may still pay."""
        mine = {at for at, hold in self.model.holds.items() if buyer and hold.buyer == buyer and hold.is_live}
        assert {hold.id for hold in holds.of_buyer(buyer)} == mine

    # --- the clock, and who tidies up after it

    @rule(ids=st.lists(held, min_size=1, max_size=4))
    def run_out(self, ids: list[UUID]) -> None:
        for at in ids:
            hold = self.model.holds.get(at)
            if hold and hold.status in ("ACTIVE", "ORDERED"):
                end_time(at)
                hold.is_over = True
                hold.expires_at = Reservation.objects.values_list("expires_at", flat=True).get(pk=at)

    @rule(batch=st.sampled_from([1, 500]), and_purge=st.booleans())
    def sweep(self, batch: int, and_purge: bool) -> None:
        """V11: afterwards no ACTIVE hold past its time is stored."""
        stored = self._stored(status="ACTIVE")
        over = {at for at in stored if self.model.holds[at].is_over}
        assert holds.release_expired(batch=batch) == len(over)
        assert self._stored(status="ACTIVE") == stored - over
        for at in over:
            self.model.holds[at].status = "EXPIRED"
        if and_purge:
            self._purge()

    def _purge(self) -> None:
        """What ended and was never ordered goes, with its keys; nothing else does."""
        gone = {at for at in self._stored(status__in=["RELEASED", "EXPIRED"]) if not self.model.holds[at].order}
        purge.purge_old_rows(by="command")
        for at in gone:
            assert not self.model.holds.pop(at).counts
        self.model.keys = {key: bound for key, bound in self.model.keys.items() if bound[1] not in gone}
        assert self._stored() == set(self.model.holds)

    # --- staff

    @rule(
        change=st.one_of(
            st.tuples(st.just("capacity"), _QUOTA, st.integers(0, 9)),
            st.tuples(st.just("capacity"), _QUOTA, st.integers(2, 9)),
            st.tuples(st.just("mapping"), _PRODUCT, _QUOTA),
            st.tuples(st.just("price"), _PRODUCT, st.sampled_from([0, 5, 333, 1999])),
            st.tuples(st.just("sale"), _PRODUCT, st.sampled_from([False, False, True])),
            st.tuples(st.just("event"), st.none(), st.sampled_from([False, False, True])),
            st.tuples(st.just("code"), st.sampled_from(["TEN", "EACH"]), st.sampled_from([None, 0, 1, 2, 3])),
        )
    )
    def staff(self, change: tuple[str, Any, Any]) -> None:
        kind, what, to = change
        getattr(self, f"_change_{kind}")(what, to)

    def _change_capacity(self, quota: int, capacity: int) -> None:
        at = self.world.quotas[quota]
        known = self.model.quotas[at]
        lowest = quotas.lowest_capacity(at)
        assert lowest >= known.capacity - self.model.free(at)
        try:
            with transaction.atomic():
                Quota.objects.filter(pk=at).update(capacity=capacity)
        except IntegrityError as error:
            assert "quota_is_never_oversold" in str(error)
            assert capacity < lowest
            return
        assert capacity >= lowest
        known.capacity = capacity

    def _change_mapping(self, product: int, quota: int) -> None:
        """From now on the product draws on one quota more or less; what was taken was taken."""
        at, other = self.world.products[product], self.world.quotas[quota]
        links = Product.objects.get(pk=at).quotas
        drawn = self.model.products[at].quotas
        if other in drawn:
            links.remove(other)
        else:
            links.add(other)
        drawn ^= {other}

    def _change_price(self, product: int, price: int) -> None:
        at = self.world.products[product]
        Product.objects.filter(pk=at).update(price_minor=price)
        self.model.products[at].price = price

    def _change_sale(self, product: int, is_stopped: bool) -> None:
        at = self.world.products[product]
        Product.objects.filter(pk=at).update(is_stopped=is_stopped)
        self.model.products[at].is_stopped = is_stopped

    def _change_event(self, _event: None, is_cancelled: bool) -> None:
        Event.objects.filter(pk=self.world.event.pk).update(status="CANCELLED" if is_cancelled else "PUBLISHED")
        self.model.is_cancelled = is_cancelled

    def _change_code(self, code: str, most: int | None) -> None:
        """With no use at all it is also stopped."""
        stored = PromoCode.objects.get(event=self.world.event, code=code)
        try:
            with transaction.atomic():
                PromoCode.objects.filter(pk=stored.pk).update(is_stopped=most == 0, max_uses=most)
        except IntegrityError as error:
            assert "promo_code_is_never_overused" in str(error)
            assert most is not None
            assert most < stored.uses
            return
        assert most is None or most >= stored.uses >= self.model.uses(code)
        self.model.codes[code].is_stopped = most == 0
        self.model.codes[code].most = most

    # --- true after each step

    @invariant()
    def counters_agree_with_claims_and_stay_within_capacity(self) -> None:
        """V1, V2, V16, by SQL of our own; the recount that staff can start says the same at the end of each play."""
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT q.id, q.capacity, q.held, q.sold,
                    COALESCE(sum(c.quantity) FILTER (WHERE r.status IN ('ACTIVE', 'ORDERED')), 0),
                    COALESCE(sum(c.quantity) FILTER (WHERE r.status = 'CONFIRMED'), 0),
                    COALESCE(sum(c.quantity) FILTER (WHERE r.status = 'ACTIVE' AND r.expires_at <= clock_timestamp()), 0)
                FROM ticketing_quota q LEFT JOIN reservations_claim c ON c.quota_id = q.id
                LEFT JOIN reservations_reservationline l ON l.id = c.line_id
                LEFT JOIN reservations_reservation r ON r.id = l.reservation_id
                WHERE q.event_id = %s GROUP BY q.id
                """,
                [self.world.event.pk],
            )
            for at, capacity, held, sold, claims_held, claims_sold, claims_over in cursor.fetchall():
                assert (held, sold) == (claims_held, claims_sold)
                assert held + sold <= capacity == self.model.quotas[at].capacity
                assert capacity - held - sold + claims_over == self.model.free(at)
            cursor.execute(
                """
                SELECT c.code, c.uses, c.max_uses, count(r.id) FROM reservations_promocode c
                LEFT JOIN reservations_reservation r
                    ON r.promo_code_id = c.id AND r.status IN ('ACTIVE', 'ORDERED', 'CONFIRMED')
                WHERE c.event_id = %s GROUP BY c.id
                """,
                [self.world.event.pk],
            )
            for code, uses, most, counted in cursor.fetchall():
                assert uses == counted
                assert most is None or uses <= most
                assert most == self.model.codes[code].most

    @invariant()
    def orders_and_reservations_agree(self) -> None:
        """V12, V4: one order at most, in the state that its reservation says; tickets for what is paid, and only that."""
        rows = Order.objects.filter(event=self.world.event).values_list("reservation", "status", "reservation__status")
        assert len(rows) == len({row[0] for row in rows})
        told = {"AWAITING_PAYMENT": {"ORDERED"}, "PAID": {"CONFIRMED"}, "CANCELLED": {"EXPIRED", "RELEASED"}}
        assert all(reservation in told[order] for _at, order, reservation in rows)
        assert {at: order for at, order, _r in rows} == {at: h.order for at, h in self.model.holds.items() if h.order}
        paid = [hold for hold in self.model.holds.values() if hold.order == "PAID"]
        units = sum(quantity for hold in paid for quantity, _price, _discount in hold.lines.values())
        assert Ticket.objects.filter(event=self.world.event).count() == units

    @invariant()
    def every_hold_reads_as_the_model_says(self) -> None:
        """Statuses by the clock, prices and discounts frozen, what may still be done."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, reservations_describe(id) FROM reservations_reservation WHERE event_id = %s",
                [self.world.event.pk],
            )
            told = {at: holds._hold(json.loads(described)) for at, described in cursor.fetchall()}
        assert told.keys() == self.model.holds.keys()
        for at, hold in self.model.holds.items():
            self._compare(told[at], hold)

    @invariant()
    def availability_is_what_the_model_has_left(self) -> None:
        expected = set()
        for product in self.world.products:
            for slot in self.model.slots_of(product) or {None}:
                left = self.model.available((product, slot))
                most = min((self.model.quotas[at].capacity for at in self.model.draws((product, slot))), default=0)
                state = "sold_out" if left == 0 else "low" if left <= 10 and left * 5 <= most else "available"
                expected.add((product, slot, left, "not_on_sale" if self.model.is_closed(product) else state))
        found, _as_of = availability.of_events([self.world.event.pk])
        told = [(free.product_id, free.slot_id, free.available, free.state) for free in found[self.world.event.pk]]
        assert len(told) == len(expected)
        assert set(told) == expected

    # ---

    def _compare(self, told: holds.Hold, hold: ModelHold) -> None:
        assert (told.status, told.is_live, told.promo_code) == (hold.told, hold.is_live, hold.code)
        assert told.can_extend == (hold.is_live and not hold.is_extended)
        assert told.expires_at == hold.expires_at
        assert told.total.amount_minor == hold.total
        assert {
            (line.product_id, line.slot_id): (line.quantity, line.unit_price.amount_minor, line.discount.amount_minor)
            for line in told.lines
        } == hold.lines

    def _stored(self, **condition: Any) -> set[UUID]:
        return set(self.world.event.reservations.filter(**condition).values_list("pk", flat=True))

    def _product(self, at: int) -> int:
        return [*self.world.products, NOBODYS][at]

    def _slot(self, at: int | None, product: int) -> int | None:
        """One of two where the product is sold by slot now, else none; None and 2 are mistakes, or may be."""
        if at in (0, 1) and self.model.slots_of(self._product(product)):
            return self.world.slots[at]
        return NOBODYS if at == 2 else None


def _facts(refusal: Exception) -> tuple[Any, ...]:
    """What a refusal says beyond its name, in the model's words."""
    match refusal:
        case holds.InvalidLines():
            return ([(each["line"], each["field"], each["mistake"]) for each in refusal.mistakes],)
        case holds.NotOnSale():
            return ([(line["product"], line["slot"]) for line in refusal.lines],)
        case holds.LimitExceeded():
            return ({line["product"]: (line["requested"], line["max_per_order"]) for line in refusal.lines},)
        case holds.SoldOut():
            return (
                [((line["product"], line["slot"]), line["requested"], line["available"]) for line in refusal.lines],
            )
        case holds.InvalidPromoCode():
            return (refusal.reason,)
        case holds.KeyReused() | holds.PromoCodeUsedUp():
            return ()
    raise refusal


def play(machine: OfficeMachine, chance: random.Random) -> None:
    """One thing that happens, drawn at random: mostly buyers, and what becomes of their latest holds."""

    def wish() -> tuple[Any, str, str]:
        lines = [
            (chance.randrange(4), chance.randrange(2), chance.randint(1, 2)) for _ in range(chance.choice([1, 1, 2]))
        ]
        return (
            lines,
            chance.choice(["", "", *BROWSERS]),
            chance.choice(["", "", "TEN", "TEN", "TEN", "EACH", "EACH", "EACH", "NOPE"]),
        )

    latest = list(machine.model.holds)[-12:] or [uuid4()]
    key = f"a key of 16 letters {chance.randrange(6)}"
    match chance.choices(range(11), weights=[30, 2, 5, 8, 3, 4, 10, 8, 14, 4, 8])[0]:
        case 0:
            machine.rush([wish()])
        case 1:
            odd = (chance.randrange(5), chance.choice([None, 0, 1, 2]), chance.randint(1, 4))
            machine.ask_oddly([odd], *wish()[1:])
        case 2:
            machine.ask_with_a_key(wish(), key, 2)
        case 3:
            machine.ask_again(key, chance.choice(["", *BROWSERS]))
        case 4:
            machine.extend(chance.choice(latest))
        case 5:
            machine.release(chance.choice(latest))
        case 6:
            machine.order(
                chance.choice(latest), chance.choice(["ada@example.org", "Ada@Example.org", "bob@example.org"])
            )
        case 7:
            machine.settle(chance.choice(latest), chance.choice(["CONFIRMED", "EXPIRED", "EXPIRED", "RELEASED"]))
        case 8:
            machine.run_out(chance.sample(latest, min(len(latest), 3)))
        case 9:
            machine.sweep(chance.choice([1, 500]), chance.random() < 0.3)
        case 10:
            machine.staff(chance.choice(staff_changes(chance)))


def staff_changes(chance: random.Random) -> list[tuple[str, Any, Any]]:
    """Sales are closed now and then; capacities grow more often than they shrink, so that there is something to sell."""
    product, quota = chance.randrange(4), chance.randrange(5)
    return [
        ("capacity", quota, chance.randint(0, 9)),
        ("capacity", quota, chance.randint(5, 40)),
        ("mapping", product, quota),
        ("mapping", product, quota),
        ("price", product, chance.choice([0, 5, 333, 1999])),
        ("sale", product, chance.random() < 0.1),
        ("event", None, chance.random() < 0.03),
        ("code", chance.choice(["TEN", "EACH"]), chance.choice([None, 0, 1, 1, 2, 2, 3])),
    ]


@pytest.mark.row(
    "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H15", "H16", "H17", "T15", "HC-A2", "HC-K1", "HC-K3", "HC-K4"
)
@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(5))
def test_long_days_never_leave_the_model(settings, seed):
    """The same, for many steps in a row: the seed says which. Less to shrink, more that has happened before."""
    settings.HOLD_KEEP_DAYS = 0

    class Machine(OfficeMachine):
        world = make_world()

    machine, chance = Machine(), random.Random(seed)
    try:
        for _step in range(300):
            play(machine, chance)
            machine.counters_agree_with_claims_and_stay_within_capacity()
            machine.orders_and_reservations_agree()
            machine.every_hold_reads_as_the_model_says()
            machine.availability_is_what_the_model_has_left()
    finally:
        machine.teardown()


@pytest.mark.row(
    "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H15", "H16", "H17", "T15", "HC-A2", "HC-K1", "HC-K3", "HC-K4"
)
@pytest.mark.django_db
def test_buyers_staff_and_clock_never_leave_the_model(settings):
    """Programme 1 of RELIABILITY for holds: V1, V2, V4, V11, V12, V16 after every step of every play."""
    settings.HOLD_KEEP_DAYS = 0  # the purge takes whatever has ended

    class Machine(OfficeMachine):
        world = make_world()

    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(
            max_examples=40,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
