"""Holds of one event that share a call to the database: decided in order, and nobody is harmed by the company."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from waffle.testutils import override_flag

from config.money import Money
from reservations import batching, holds
from reservations.models import Claim, PromoCode, Reservation, ReservationKey, ReservationLine
from reservations.recount import differing
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory, QuotaFactory, SlotFactory
from tests.purchases import counters, end_time, hold, recount, stock_of
from tests.races import at_once, of_type
from ticketing.models import Event, Product, Quota

pytestmark = pytest.mark.django_db(transaction=True)

FAR_TOO_DEAR = 2**62  # three of these are more than PostgreSQL's bigint can say


def wish(product: Product, quantity: int = 1, *, key: str | None = None, buyer: str = "", code: str = "") -> Any:
    return batching.Request([holds.Wanted(product.pk, None, quantity)], key=key, buyer_key=buyer, promo_code=code)


def results(answers: Sequence[Any]) -> list[str]:
    """Each answer in a word; an exception's class name."""
    return [type(answer).__name__ if isinstance(answer, Exception) else answer["result"] for answer in answers]


def take_together(event: Event, requests: Sequence[Any]) -> list[Any]:
    return batching.together(event.slug, requests)


# --- decided in order ------------------------------------------------------------------------------------------------


@pytest.mark.row("H1", "HC-A5")
def test_first_come_first_served_and_a_refusal_takes_nothing():
    """H1: of five seats 3 are granted, 3 refused with 2 left, 2 granted, 1 refused with none left."""
    product = ProductFactory(quotas__capacity=5)
    answers = take_together(product.event, [wish(product, n) for n in (3, 3, 2, 1)])
    assert results(answers) == ["granted", "sold_out", "granted", "sold_out"]
    assert [answer["lines"][0]["available"] for answer in answers if "lines" in answer] == [2, 0]
    assert stock_of(product) == recount(product.quotas.get()) == (5, 0)
    assert Reservation.objects.count() == 2


@pytest.mark.row("H1", "PF10")
def test_a_batch_is_one_statement_and_one_moment():
    """PF10: sixty-four buyers, three lines each: one SQL statement; their holds begin and end together."""
    event = EventFactory()
    products = [ProductFactory(event=event, quotas__capacity=500) for _ in range(3)]
    lines = [holds.Wanted(product.pk, None, 2) for product in products]
    requests = [batching.Request(lines, key=None, buyer_key="", promo_code="") for _ in range(64)]
    with CaptureQueriesContext(connection) as queries:
        answers = take_together(event, requests)
    assert results(answers) == ["granted"] * 64
    assert len(queries) == 1
    assert Reservation.objects.values("created_at", "expires_at").distinct().count() == 1
    assert ReservationLine.objects.count() == Claim.objects.count() == 192
    assert {stock_of(product) for product in products} == {(128, 0)}


@pytest.mark.row("H1")
def test_what_each_is_told_is_what_is_stored():
    """H1: prices, discounts and times of a batch's answers equal what the database describes afterwards."""
    event = EventFactory()
    one, other = ProductFactory(event=event, price_minor=333), ProductFactory(event=event, price_minor=1000)
    code = PromoCodeFactory(event=event, percent_off=50, products=[one])
    both = [holds.Wanted(one.pk, None, 2), holds.Wanted(other.pk, None, 1)]
    requests = [
        wish(other, 3),
        batching.Request(both, key=None, buyer_key="", promo_code=code.code),
        wish(one, 1, key="k" * 16, buyer="b"),
    ]
    for request, answer in zip(requests, take_together(event, requests), strict=True):
        told, stored = answer["hold"], holds.look_up(request.id)
        assert told.id == request.id
        for name in ("status", "currency", "expires_at", "is_live", "can_extend", "promo_code", "lines", "total"):
            assert getattr(told, name) == getattr(stored, name), name
        assert told.server_time <= stored.server_time
    assert holds.look_up(requests[1].id).discount == Money(334, "EUR")  # 166.5 rounds up, for one unit


@pytest.mark.row("HC-A4", "HC-A7")
def test_twins_collapse_into_one_hold():
    """HC-A4: a double click in one batch: the first is granted, the others are given the same hold; stock goes once."""
    product = ProductFactory()
    by_key = [wish(product, 2, key="k" * 16) for _ in range(3)]
    by_buyer = [wish(product, 1, buyer="b") for _ in range(2)]
    answers = take_together(product.event, [*by_key, *by_buyer])
    assert results(answers) == ["granted", "replayed", "replayed", "granted", "replayed"]
    assert [answer["hold"].id for answer in answers] == [by_key[0].id] * 3 + [by_buyer[0].id] * 2
    assert stock_of(product) == (3, 0)


@pytest.mark.row("HC-A3", "HC-A7")
def test_who_shares_a_key_or_a_browser_but_not_the_wish_finds_what_the_first_one_got():
    """HC-A3, HC-A7: the same key with other lines is told so; the same browser joins, whatever it asked for."""
    event = EventFactory()
    one, other = ProductFactory(event=event), ProductFactory(event=event)
    requests = [
        wish(one, key="k" * 16),
        wish(other, key="k" * 16),
        wish(one, buyer="b"),
        wish(other, buyer="b"),
        wish(other, 2, buyer="b", key="l" * 16),
    ]
    answers = take_together(event, requests)
    assert results(answers) == ["granted", "key_reused", "granted", "joined", "joined"]
    assert {answer["reservation"]["id"] for answer in answers[3:]} == {str(requests[2].id)}
    assert (stock_of(one), stock_of(other)) == ((2, 0), (0, 0))
    assert ReservationKey.objects.get().reservation_id == requests[0].id


@pytest.mark.row("H4", "HC-A10")
def test_what_ended_holds_keep_is_shared_out_in_one_call():
    """HC-A10: the batch gives back first and then serves in order."""
    product = ProductFactory(quotas__capacity=4)
    for quantity in (1, 3):
        end_time(hold(product, quantity).id)
    answers = take_together(product.event, [wish(product, n) for n in (2, 3, 2)])
    assert results(answers) == ["granted", "sold_out", "granted"]
    assert answers[1]["lines"][0]["available"] == 2
    assert stock_of(product) == recount(product.quotas.get()) == (4, 0)


# --- a batch is the same as its requests one by one ------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request in terms of the world's products, slots and codes, so that it can be put to any copy of the world."""

    lines: tuple[tuple[int, int | None, int], ...]
    key: str | None
    buyer: str
    code: str


class World:
    """One event with everything a request can stumble over."""

    CODES = ("TEN", "LAST", "SCOPED", "STOPPED", "OVER", "ONCE", "NOPE")

    def __init__(self) -> None:
        self.event = event = EventFactory()
        narrow, wide = QuotaFactory(event=event, capacity=4), QuotaFactory(event=event, capacity=9)
        self.slots = [SlotFactory(event=event) for _ in range(2)]
        by_slot = [QuotaFactory(event=event, slot=slot, capacity=3) for slot in self.slots]
        make = partial(ProductFactory, event=event)
        self.products = [
            make(quotas=[narrow], price_minor=333),
            make(quotas=[narrow, wide]),
            make(quotas=[*by_slot, wide], max_per_order=3),
            make(quotas=[wide], max_per_order=2, price_minor=0),
            make(stopped=True),
            make(not_yet=True, quotas=[wide]),
            make(quotas=[]),
            make(price_minor=FAR_TOO_DEAR),
            ProductFactory(),  # another event's
        ]
        code = partial(PromoCodeFactory, event=event)
        code(code="TEN")
        code(code="LAST", percent_off=None, amount_off_minor=400, max_uses=1)
        code(code="SCOPED", percent_off=50, products=self.products[:2], max_uses=2)
        code(code="STOPPED", stopped=True)
        code(code="OVER", over=True)
        code(code="ONCE", once_each=True)

    def begin(self, ended: int) -> None:
        """As on the first day, but for `ended` units of the first product in a hold past its time."""
        mine = {"reservation__event": self.event}
        ReservationKey.objects.filter(**mine).delete()
        Claim.objects.filter(line__reservation__event=self.event).delete()
        ReservationLine.objects.filter(**mine).delete()
        self.event.reservations.all().delete()
        self.event.quotas.update(held=0)
        self.event.promo_codes.update(uses=0)
        if ended:
            end_time(hold(self.products[0], ended).id)

    def request(self, asked: Asked) -> Any:
        lines = [
            holds.Wanted(self.products[at].pk, None if slot is None else self.slots[slot].pk, quantity)
            for at, slot, quantity in asked.lines
        ]
        key = f"{asked.key}:{self.event.pk}" if asked.key else None
        return batching.Request(holds._merged(lines), key=key, buyer_key=asked.buyer, promo_code=asked.code)

    def in_words(self, requests: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
        """The answers, without what differs from world to world."""
        asked_first = {str(request.id): at for at, request in enumerate(requests)}
        return [self._in_words(answer, asked_first) for answer in answers]

    def _in_words(self, answer: Any, asked_first: dict[str, int]) -> Any:
        if isinstance(answer, Exception):
            return type(answer)
        if answer["result"] in ("granted", "replayed", "joined"):
            found = answer.get("hold") or holds._hold(answer["reservation"])
            was_there = answer["result"] != "granted"
            return was_there, asked_first[str(found.id)], found.promo_code, [self._line(line) for line in found.lines]
        names = {"product": self._product, "slot": self._slot}
        lines = [{k: names.get(k, int)(v) for k, v in line.items()} for line in answer.get("lines", [])]
        return answer["result"], answer.get("reason"), answer.get("mistakes"), sorted(lines, key=str)

    def _line(self, line: holds.HeldLine) -> tuple[Any, ...]:
        return self._product(line.product_id), self._slot(line.slot_id), line.quantity, line.unit_price, line.discount

    def _product(self, product_id: int) -> int:
        return [product.pk for product in self.products].index(product_id)

    def _slot(self, slot_id: int | None) -> int | None:
        return None if slot_id is None else [slot.pk for slot in self.slots].index(slot_id)

    def books(self) -> Any:
        """What is taken in the end, and by how many."""
        stock = [counters(quota) for quota in self.event.quotas.order_by("pk")]
        assert list(differing(event_id=self.event.pk)) == []
        uses = list(self.event.promo_codes.order_by("pk").values_list("uses", flat=True))
        held = self.event.reservations.filter(status="ACTIVE", expires_at__gt=Now())
        return stock, uses, held.count(), ReservationKey.objects.filter(reservation__event=self.event).count()


def in_their_turns(requests: Sequence[Any]) -> list[int]:
    """In which order the requests of a batch count: twins right after the first of them, and whoever shares a key or a
    browser with somebody before goes after all who do not."""
    order: list[int] = []
    waiting = list(range(len(requests)))
    while waiting:
        taken: set[Any] = set()
        now = []
        for at in waiting:
            if taken.isdisjoint(requests[at].turns):
                now.append(at)
            taken |= requests[at].turns
        for at in now:
            order += [at, *(twin for twin in waiting if twin not in now and requests[twin] == requests[at])]
        waiting = [at for at in waiting if at not in order]
    return order


LINES = st.lists(
    st.tuples(
        # mostly what is on sale
        st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8]),
        st.sampled_from([None, None, None, 0, 1]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
ASKED = st.builds(
    Asked,
    lines=LINES,
    key=st.sampled_from([None, None, None, "a key of 16 letters", "another key, as long"]),
    buyer=st.sampled_from(["", "", "", "ada", "bob"]),
    code=st.sampled_from(["", "", "", *World.CODES]),
)
A_KEY = "a key of 16 letters"


def compare(batch: World, sequence: World, asked: list[Asked], ended: int) -> None:
    """In two copies of the world: all in one call, and each by itself."""
    for world in (batch, sequence):
        world.begin(ended)
    requests = [batch.request(each) for each in asked]
    answers = take_together(batch.event, requests)
    alone = [sequence.request(each) for each in asked]
    answered_alone: list[Any] = [None] * len(asked)
    for at in in_their_turns(requests):
        (answered_alone[at],) = take_together(sequence.event, [alone[at]])
    assert batch.in_words(requests, answers) == sequence.in_words(alone, answered_alone)
    assert batch.books() == sequence.books()
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, dict) and "hold" in answer and answer["hold"].id == request.id:
            assert holds.look_up(request.id).lines == answer["hold"].lines


@pytest.mark.row("H1", "H2", "T15", "HC-A4", "HC-A5")
def test_a_batch_is_answered_as_its_requests_one_by_one():
    """H1: invalid lines, unknown products, nothing on sale, limits, codes of all kinds, keys and browsers, poisoned
    prices: the same answers and the same books."""
    batch, sequence = World(), World()

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(asked=st.lists(ASKED, min_size=1, max_size=8), ended=st.sampled_from([0, 0, 3]))
    @example(asked=[Asked(((0, None, n),), None, "", "LAST") for n in (4, 4, 2)], ended=3)
    @example(asked=[Asked(((7, None, 3),), None, "", ""), Asked(((0, None, 1),), None, "", "TEN")], ended=0)
    @example(asked=[Asked(((1, None, n),), A_KEY, "ada", "") for n in (5, 1, 5, 1)], ended=0)
    def check(asked: list[Asked], ended: int) -> None:
        compare(batch, sequence, asked, ended)

    check()


@pytest.mark.row("H1", "H2", "T15", "HC-A4", "HC-A5")
def test_large_batches_of_likely_buyers_are_answered_as_one_by_one(monkeypatch):
    """The same with what a rush is made of: little that is wrong, much that just fits or just does not; seeded. No call
    fails, so none is saved by being repeated one by one."""
    failed = []
    monkeypatch.setattr(batching, "_call", partial(_noting, failed, batching._call))
    batch, sequence, chance = World(), World(), random.Random(1)
    for _ in range(40):
        compare(batch, sequence, [_likely(chance) for _ in range(chance.randint(4, 10))], chance.choice([0, 0, 3]))
    assert failed == []


def _noting(failed: list[Any], call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        failed.append(error)
        raise


def _likely(chance: random.Random) -> Asked:
    lines = []
    for _ in range(chance.choice([1, 1, 2])):
        product = chance.choice([0, 0, 1, 1, 2, 2, 2, 3])
        lines.append((product, chance.randrange(2) if product == 2 else None, chance.choice([1, 1, 1, 2, 3])))
    key = chance.choice([None] * 8 + [A_KEY])
    return Asked(
        tuple(lines),
        key,
        chance.choice([""] * 8 + ["ada", "bob"]),
        chance.choice(["", "", "", "TEN", "LAST", "LAST", "SCOPED", "SCOPED", "ONCE"]),
    )


# --- nobody is harmed by the company ---------------------------------------------------------------------------------


@pytest.mark.row("H1")
def test_a_request_that_the_database_cannot_carry_out_harms_nobody_else():
    """A price that no bigint can multiply, a number beyond int, a letter that is not text: each fails by itself."""
    event = EventFactory()
    good, dear = ProductFactory(event=event, quotas__capacity=4), ProductFactory(event=event, price_minor=FAR_TOO_DEAR)
    code = PromoCodeFactory(event=event, percent_off=100)
    poisons = [wish(dear, 3), wish(dear, 1, code=code.code), wish(good, 2**40), wish(good, buyer="\0")]
    for poison in poisons:
        answers = take_together(event, [wish(good), poison, wish(good, 4)])
        assert results(answers) == ["granted", "DataError", "sold_out"]
        assert isinstance(answers[1], DataError)
        assert stock_of(dear) == (0, 0)
        holds.release(answers[0]["hold"].id)
    assert stock_of(good) == recount(good.quotas.get()) == (0, 0)


@pytest.mark.row("H1", "H3")
def test_counters_that_were_altered_by_hand_hurt_only_who_needs_them():
    """H3: a code's `uses` was set too low and giving back would go below zero; the others of the batch are served."""
    event = EventFactory()
    product, other = ProductFactory(event=event, quotas__capacity=1), ProductFactory(event=event)
    code = PromoCodeFactory(event=event)
    end_time(take_together(event, [wish(product, code=code.code)])[0]["hold"].id)
    PromoCode.objects.update(uses=0)
    answers = take_together(event, [wish(other), wish(product), wish(other, 2)])
    assert results(answers) == ["granted", "IntegrityError", "granted"]
    assert "promo_code_is_never_overused" in str(answers[1])
    assert stock_of(other) == (3, 0)


@pytest.mark.row("H2", "HC-A6")
def test_hc_a6_crossed_batches_do_not_deadlock(monkeypatch):
    """HC-A6: six processes, two events that share nothing, each batch over all quotas in another order, twenty rounds."""
    # A victim is not tried again, so it would be seen.
    monkeypatch.setattr(batching, "_call", batching._call.__wrapped__)
    events = [EventFactory() for _ in range(2)]
    products = {
        event: [ProductFactory(event=event, max_per_order=50, quotas__capacity=300) for _ in range(4)]
        for event in events
    }
    keys = iter(range(10**6))

    def batches(turn: int) -> list[str]:
        said = []
        for round_ in range(20):
            event = events[(turn + round_) % 2]
            mine = products[event] if turn % 2 else products[event][::-1]
            names = [f"browser {next(keys) % 7}" for _ in mine]
            requests = [wish(product, 1, buyer=name) for product, name in zip(mine, names, strict=True)]
            basket = [holds.Wanted(product.pk, None, 1) for product in mine[turn % 3 :]]
            requests.append(batching.Request(basket, key=f"{next(keys):016}", buyer_key="", promo_code=""))
            said += results(take_together(event, requests))
        return said

    said = at_once([partial(batches, turn) for turn in range(6)])
    assert {word for words in said for word in words} <= {"granted", "joined", "replayed"}
    for quota in Quota.objects.all():
        assert counters(quota) == recount(quota)


@pytest.mark.row("H1")
def test_inside_somebodys_transaction_a_request_goes_alone_and_is_rolled_back_with_it(monkeypatch):
    """What a batch of others took must not depend on whether one of them rolls back."""
    product = ProductFactory()
    monkeypatch.setattr(batching._combiner, "ask", None)
    with transaction.atomic():
        hold(product)
        assert stock_of(product) == (1, 0)
        transaction.set_rollback(True)
    assert stock_of(product) == (0, 0)
    assert not Reservation.objects.exists()


class StuckQuota:
    """A product whose quota another session has locked until `let_go`; buyers come in a known order and wait."""

    def __init__(self) -> None:
        self.product = ProductFactory(quotas__capacity=50)
        self.session = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})
        quota = self.product.quotas.get()
        self.session.execute("SELECT FROM ticketing_quota WHERE id = %s FOR UPDATE", [quota.pk])
        self.buyers: list[_Buyer] = []

    def rush(self, number: int) -> list["_Buyer"]:
        """So many more buyers, all in line: the first of all leads and waits for the quota, the others for it."""
        lane, combiner = self.product.event.slug, batching._combiner
        come = []
        for _ in range(number):
            is_led, before = combiner.is_busy(lane), len(combiner._lanes.get(lane, ()))
            come.append(_Buyer(self.product))
            if is_led:
                _until(lambda before=before: len(combiner._lanes.get(lane, ())) == before + 1)
            else:
                _until(_waiting)
        self.buyers += come
        return come

    def let_go(self) -> None:
        self.session.rollback()

    def close(self) -> None:
        self.session.close()
        for buyer in self.buyers:
            buyer.join(30)


class _Buyer(threading.Thread):
    def __init__(self, product: Product) -> None:
        super().__init__(daemon=True)
        self.product = product
        self.results: list[Any] = []
        self.start()

    def run(self) -> None:
        self.results = at_once([partial(hold, self.product)])

    def told(self) -> Any:
        self.join(30)
        assert not self.is_alive(), "a buyer hangs"
        return self.results[0]


@pytest.fixture
def stuck() -> Iterator[StuckQuota]:
    quota = StuckQuota()
    yield quota
    quota.close()


@pytest.mark.row("H1")
def test_the_threads_of_one_process_share_a_call(stuck):
    """The first waits for the quota; the ten who come meanwhile are one batch: two moments for eleven holds."""
    buyers = stuck.rush(11)
    stuck.let_go()
    assert len(of_type([buyer.told() for buyer in buyers], holds.Hold)) == 11
    assert Reservation.objects.values("created_at").distinct().count() == 2
    assert stock_of(stuck.product) == recount(stuck.product.quotas.get()) == (11, 0)


@pytest.mark.row("H1", "P18")
def test_its_flag_off_each_waits_for_the_quota_by_itself(stuck):
    with override_flag(batching.FLAG, active=False):
        buyers = [_Buyer(stuck.product) for _ in range(6)]
        stuck.buyers += buyers
        _until(lambda: len(_waiting()) == 6)
        stuck.let_go()
        assert len(of_type([buyer.told() for buyer in buyers], holds.Hold)) == 6
    assert stock_of(stuck.product) == recount(stuck.product.quotas.get()) == (6, 0)


@pytest.mark.row("H1", "HC-M1")
def test_hc_m1_a_connection_cut_in_the_middle_ends_its_batch_and_the_next_goes_on(stuck):
    """HC-M1: everybody in that batch is told that it failed, nothing of it was taken, and the next batch is served."""
    alone, *batch = stuck.rush(6)
    first = _cut_whoever_waits()
    assert isinstance(alone.told(), OperationalError)
    _until(lambda: set(_waiting()) - {first})  # the next has taken over
    following = stuck.rush(3)
    _cut_whoever_waits()
    assert len(of_type([buyer.told() for buyer in batch], OperationalError)) == 5
    stuck.let_go()
    assert len(of_type([buyer.told() for buyer in following], holds.Hold)) == 3
    assert stock_of(stuck.product) == recount(stuck.product.quotas.get()) == (3, 0)


def _waiting() -> list[int]:
    """Sessions that wait for a lock of another."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return [row[0] for row in cursor.fetchall()]


def _cut_whoever_waits() -> int:
    """Ends the session that waits for the quota; its process id."""
    _until(_waiting)
    (pid,) = _waiting()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    return pid


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
