"""The reservation dashboard: what is held, what became of it, what was wanted in vain, and what staff do about it (H14)."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from reservations import holds
from reservations.admin import charts, figures
from reservations.models import Conflict, LimitHit, Reservation, StatusChange, SweepRun
from tests.admin.catalogue import paid_order, unpaid_order
from tests.browsing import open_context, open_page
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory, UserFactory
from tests.office import Office
from tests.purchases import end_time, hold, stock_of
from ticketing.models import Product, User

pytestmark = pytest.mark.row("H14")

PAGE = "/admin/reservations/reservation/dashboard/"
NAME = "admin:reservations_reservation_dashboard"


def _numbers(desk: Client, **choice: Any) -> Any:
    answer = desk.get(PAGE, choice)
    assert answer.status_code == 200
    return answer.context


def _headlines(desk: Client, **choice: Any) -> dict[str, str]:
    return {one.title: one.value for one in _numbers(desk, **choice)["headlines"]}


def _text(answer: Any) -> str:
    """Words only, as a person reads them."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def _conflict(product: Product, *, minutes_ago: int = 0, slot: Any = None, requests: int = 1, units: int = 1) -> None:
    minute = Now() - timedelta(minutes=minutes_ago)
    Conflict.objects.create(product=product, slot=slot, minute=minute, requests=requests, units=units)


def _clerk(client: Client, *permissions: str) -> Client:
    clerk = UserFactory(is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(clerk)
    return client


@pytest.fixture(autouse=True)
def _fresh_numbers(settings) -> None:
    """Long periods are kept for a while; here each look counts."""
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    settings.CACHES = settings.CACHES | {"default": dummy}


@pytest.fixture
def product(db) -> Product:
    return ProductFactory(name="Floor", quotas__capacity=20, quotas__name="Hall")


class TestNumbers:
    def test_an_empty_office(self, desk: Client) -> None:
        assert _headlines(desk) == {
            "Live holds": "0",
            "Units held": "0",
            "Expiring soon": "0",
            "Ordered": "0",
            "Conversion": "–",
            "Conflicts": "0",
        }
        text = _text(desk.get(PAGE))
        assert "Nothing is held right now." in text
        assert "No event is on sale." in text

    def test_headlines(self, desk: Client, product: Product) -> None:
        """Live are holds within their time, and ordered ones whatever their time: both keep stock."""
        hold(product, 2)
        Reservation.objects.update(expires_at=Now() + timedelta(seconds=90))
        end_time(hold(product, 3).id)
        end_time(unpaid_order(product, 4).reservation_id, seconds=30)
        paid_order(product)
        holds.release(hold(product).id)
        _conflict(product, requests=3, units=7)
        assert _headlines(desk) == {
            "Live holds": "2",
            "Units held": "6",
            "Expiring soon": "1",
            "Ordered": "1",
            "Conversion": "50%",
            "Conflicts": "3",
        }

    def test_an_event_chosen_is_all_that_counts(self, desk: Client, product: Product) -> None:
        other = ProductFactory(name="Of another event")
        for one, quantity in ((product, 2), (other, 1)):
            hold(one, quantity)
            paid_order(one)
            _conflict(one, requests=quantity)
        numbers = _headlines(desk, event=product.event_id)
        assert (numbers["Live holds"], numbers["Units held"], numbers["Conflicts"]) == ("1", "2", "2")
        context = _numbers(desk, event=product.event_id)
        assert context["history"].total("taken") == 2
        assert [wanted.product for wanted in context["top_conflicts"]] == ["Floor"]
        assert [one.event for one in context["events_now"]] == [product.event]
        assert [row.reservation.event for row in context["holds"]] == [product.event]
        assert "Of another event" not in desk.get(PAGE, {"event": product.event_id, "part": "main"}).content.decode()

    @pytest.mark.parametrize(
        ("event", "status"), [("", 200), ("none", 200), ("-1", 200), ("999999", 404), ("9" * 40, 200)]
    )
    def test_an_event_that_nobody_knows(self, desk: Client, product: Product, event: str, status: int) -> None:
        assert desk.get(PAGE, {"event": event, "period": "for ever"}).status_code == status

    def test_the_bars_show_holds_past_their_time_as_free(self, desk: Client, product: Product) -> None:
        """As buyers see it, swept or not."""
        hold(product, 2)
        end_time(hold(product, 3).id)
        paid_order(product, 4)
        assert stock_of(product) == (5, 4)
        text = _text(desk.get(PAGE))
        assert "4 sold · 2 held · 14 free of 20" in text
        assert "1 live hold · 2 units" in text
        assert "Release expired now (1)" in text

    def test_time_left_and_what_is_held_in_words(self, desk: Client) -> None:
        event = EventFactory(name="Tour")
        slot = SlotFactory(event=event)
        quota = QuotaFactory(event=event, slot=slot)
        hold(ProductFactory(event=event, name="Adult", quotas=[quota]), 2, slot=slot)
        order = unpaid_order(ProductFactory(event=event, name="Print"))
        Reservation.objects.filter(pk=order.reservation_id).update(expires_at=Now() + timedelta(minutes=3))
        rows = _numbers(desk)["holds"]
        assert [[str(line) for line in row.lines] for row in rows] == [["1 × Print"], ["2 × Adult"]]
        assert re.fullmatch(r"0[23]:\d\d", rows[0].time_left)
        text = _text(desk.get(PAGE))
        assert f"2 × Adult, {slot.when}" in text
        assert f"{order.code} paying" in text

    def test_at_most_fifty_the_soonest_first(self, desk: Client, product: Product) -> None:
        product.quotas.update(capacity=100)
        for _number in range(53):
            hold(product)
        last = Reservation.objects.order_by("expires_at").first()
        Reservation.objects.filter(pk=last.pk).update(expires_at=F("expires_at") + timedelta(hours=1))
        rows = _numbers(desk)["holds"]
        assert len(rows) == 50
        assert [row.reservation.expires_at for row in rows] == sorted(row.reservation.expires_at for row in rows)
        assert last.pk not in {row.reservation.pk for row in rows}
        assert "The 50 that end first, of 53." in _text(desk.get(PAGE))


class TestHistory:
    def test_what_happened_is_counted_in_its_step(self, desk: Client, product: Product) -> None:
        hold(product)
        Reservation.objects.update(created_at=Now() - timedelta(hours=5), expires_at=Now() - timedelta(hours=4))
        holds.release_expired()
        Reservation.objects.update(ended_at=Now() - timedelta(hours=3))
        holds.release(hold(product).id)
        paid_order(product)
        buckets = _numbers(desk, period="day")["history"].buckets
        assert [bucket.taken for bucket in buckets[-6:]] == [1, 0, 0, 0, 0, 2]
        assert [bucket.expired for bucket in buckets[-6:]] == [0, 0, 1, 0, 0, 0]
        assert (buckets[-1].released, buckets[-1].confirmed) == (1, 1)
        assert _numbers(desk, period="hour")["history"].total("taken") == 2

    def test_unmet_demand_by_time_and_by_product(self, desk: Client, product: Product) -> None:
        slot = SlotFactory(event=product.event)
        _conflict(product, requests=2, units=4)
        _conflict(product, minutes_ago=61, requests=1, units=1)
        _conflict(product, minutes_ago=8 * 24 * 60, requests=100)
        _conflict(product, slot=slot, requests=5, units=9)
        context = _numbers(desk, period="week")
        assert (context["history"].total("refused"), context["history"].total("units_refused")) == (8, 14)
        rows = [(one.slot_when, one.requests, one.units) for one in context["top_conflicts"]]
        assert rows == [(slot.when, 5, 9), ("", 3, 5)]
        assert _numbers(desk, period="hour")["history"].total("refused") == 7

    def test_a_long_period_is_not_counted_at_every_look(self, desk: Client, product: Product, settings) -> None:
        memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "of this test"}
        settings.CACHES = settings.CACHES | {"default": memory}
        hold(product)
        for period, is_kept in (("week", True), ("day", True), ("hour", False)):
            _numbers(desk, period=period)
            hold(product)
            context = _numbers(desk, period=period)
            assert context["live"].holds == Reservation.objects.count()
            assert context["history"].total("taken") == Reservation.objects.count() - (1 if is_kept else 0)

    @pytest.mark.parametrize(
        ("period", "now", "start"),
        [
            ("hour", "2027-01-10T12:34:56", "2027-01-10T11:35:00"),
            ("day", "2027-01-10T12:34:56", "2027-01-09T13:00:00"),
            ("week", "2027-01-10T12:34:56", "2027-01-03T17:00:00"),  # 18:00 in Berlin
        ],
    )
    def test_steps_begin_on_the_events_clock(self, period: str, now: str, start: str) -> None:
        moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
        begins = figures.PERIODS[period].start(moment, ZoneInfo("Europe/Berlin"))
        assert begins == datetime.fromisoformat(start).replace(tzinfo=UTC)

    def test_the_chart_has_its_numbers_as_a_table_too(self, desk: Client, product: Product) -> None:
        hold(product)
        page = desk.get(PAGE, {"period": "hour"}).content.decode()
        assert page.count('<rect class="rd-fill-taken"') == 1
        assert re.search(r'<th scope="row">[^<]+ – \d\d:\d\d</th><td class="rd-number">1</td>', page)

    def test_bars_stand_on_each_other_and_never_above_the_top(self) -> None:
        buckets = [figures.Bucket(datetime(2027, 1, 10, hour, tzinfo=UTC), 9, 5, 3, hour) for hour in range(3)]
        series = [
            charts.Series("taken", "taken"),
            *(charts.Series(name, name, 1) for name in ("confirmed", "released")),
        ]
        drawn = charts.chart(buckets, series, step=timedelta(hours=1), zone=ZoneInfo("UTC"))
        assert [line.value for line in drawn.grid] == [0, 5, 10]
        taken, confirmed, released = drawn.columns[1].bars
        assert float(confirmed.y) == float(released.y) + float(released.height)
        assert min(float(bar.y) for column in drawn.columns for bar in column.bars) >= 0
        assert taken.x != confirmed.x == released.x


@pytest.mark.row("H13")
def test_staff_see_that_and_by_whom_limits_are_hit(desk: Client, client: Client) -> None:
    LimitHit.objects.create(limit="holds a minute", who="192.0.2.7", minute=Now(), hits=12)
    assert "Rate limits were hit 12 times" in _text(desk.get(PAGE))
    listed = desk.get("/admin/reservations/limithit/", {"limit": "holds a minute"})
    assert "192.0.2.7" in listed.content.decode()
    assert "Rate limits" not in _text(_clerk(client, "view_reservation").get(PAGE))


def _asked(desk: Client, name: str, *args: Any) -> str:
    """The address of a question; it is asked on a page of its own and, for the dialog, alone."""
    address = reverse(f"{NAME}_{name}", args=args)
    assert "data-question" in desk.get(address).content.decode()
    alone = desk.get(address, {"part": "main"}).content.decode()
    assert "csrfmiddlewaretoken" in alone
    assert "<html" not in alone
    return address


def _said(answer: Any) -> list[tuple[str, str]]:
    """What this answer adds to the messages; the browser here follows no redirect, so earlier ones still wait."""
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(PAGE)
    return [(message.level_tag, str(message)) for message in get_messages(answer.wsgi_request)._queued_messages]


class TestDeeds:
    def test_extend(self, desk: Client, superuser: User, product: Product) -> None:
        """The buyer keeps their own extension."""
        held = hold(product)
        address = _asked(desk, "extend", held.id)
        answer = desk.post(f"{address}?event={product.event_id}&period=week", {"minutes": "15"})
        assert _said(answer) == [("success", f"{held.id}: extended by 15 minutes")]
        assert answer.headers["Location"] == f"{PAGE}?event={product.event_id}&period=week"
        reservation = Reservation.objects.get()
        assert reservation.expires_at == held.expires_at + timedelta(minutes=15)
        assert StatusChange.objects.filter(object_id=str(held.id), by=f"staff:{superuser.pk}").count() == 1
        assert LogEntry.objects.get(object_id=str(held.id)).get_change_message() == "extended by 15 minutes"
        assert holds.extend(held.id).expires_at > reservation.expires_at

    def test_an_ordered_hold_too(self, desk: Client, product: Product) -> None:
        order = unpaid_order(product)
        [(level, _words)] = _said(desk.post(reverse(f"{NAME}_extend", args=[order.reservation_id]), {"minutes": "5"}))
        assert level == "success"

    @pytest.mark.parametrize("minutes", ["", "7", "-5", "1000000", "five"])
    def test_only_by_what_is_offered(self, desk: Client, product: Product, minutes: str) -> None:
        held = hold(product)
        [(level, _words)] = _said(desk.post(reverse(f"{NAME}_extend", args=[held.id]), {"minutes": minutes}))
        assert level == "warning"
        assert Reservation.objects.get().expires_at == held.expires_at

    def test_not_what_has_ended(self, desk: Client, product: Product) -> None:
        held = hold(product)
        end_time(held.id)
        [(level, words)] = _said(desk.post(reverse(f"{NAME}_extend", args=[held.id]), {"minutes": "5"}))
        assert (level, "It has ended already" in words) == ("warning", True)

    def test_release(self, desk: Client, product: Product) -> None:
        held = hold(product, 2)
        address = _asked(desk, "release", held.id)
        assert stock_of(product) == (2, 0)  # asking changes nothing
        assert _said(desk.post(address)) == [("success", f"{held.id}: released")]
        assert stock_of(product) == (0, 0)
        assert _said(desk.post(address))[0][0] == "warning"

    def test_release_what_was_ordered_meanwhile(self, desk: Client, product: Product) -> None:
        order = unpaid_order(product)
        [(level, words)] = _said(desk.post(reverse(f"{NAME}_release", args=[order.reservation_id])))
        assert (level, "close its order instead" in words) == ("warning", True)
        assert stock_of(product) == (1, 0)

    @pytest.mark.row("H8")
    def test_release_expired_now(self, desk: Client, superuser: User, product: Product) -> None:
        for _number in range(2):
            end_time(hold(product).id)
        hold(product)
        address = _asked(desk, "release_expired")
        assert _said(desk.post(address)) == [("success", "2 expired holds released.")]
        assert stock_of(product) == (1, 0)
        run = SweepRun.objects.get()
        assert (run.by, run.dealt_with) == (f"staff:{superuser.pk}", 2)

    @pytest.mark.row("H15")
    def test_stop_and_resume_a_product(self, desk: Client, product: Product) -> None:
        assert _said(desk.post(_asked(desk, "stop_product", product.pk))) == [("success", "Floor: selling stopped")]
        assert "stopped Resume" in _text(desk.get(PAGE))
        with pytest.raises(holds.NotOnSale):
            hold(product)
        assert product.quotas.get().capacity == 20
        assert _said(desk.post(_asked(desk, "resume_product", product.pk))) == [("success", "Floor: selling resumed")]
        hold(product)

    @pytest.mark.row("H15")
    def test_stop_and_resume_a_whole_event(self, desk: Client, product: Product) -> None:
        other, _foreign = ProductFactory(event=product.event), ProductFactory()
        address = _asked(desk, "stop_event", product.event_id)
        assert _said(desk.post(address)) == [("success", f"{product.event}: selling of 2 products stopped")]
        assert set(Product.objects.filter(is_stopped=True)) == {product, other}
        assert _said(desk.post(address)) == [("warning", f"{product.event}: Nothing of it was being sold.")]
        desk.post(_asked(desk, "resume_event", product.event_id))
        assert not Product.objects.filter(is_stopped=True).exists()

    @pytest.mark.row("H15")
    def test_the_events_own_page_stops_everything_too(self, desk: Client, product: Product) -> None:
        page = reverse("admin:ticketing_event_change", args=[product.event_id])
        for button, is_stopped in (("stop_everything", True), ("resume_everything", False)):
            address = reverse(f"admin:ticketing_event_{button}", args=[product.event_id])
            assert address in desk.get(page).content.decode()
            desk.post(address, {"_form_submitted": "True"})
            product.refresh_from_db()
            assert product.is_stopped is is_stopped


class TestPermissions:
    def test_strangers_and_staff_without_permission_see_nothing(self, client: Client, product: Product) -> None:
        assert "/admin/login/" in client.get(PAGE).headers["Location"]
        assert _clerk(client).get(PAGE).status_code == 403
        assert PAGE not in client.get("/admin/").content.decode()

    def test_looking_is_not_doing(self, client: Client, product: Product) -> None:
        held = hold(product)
        looker = _clerk(client, "view_reservation")
        page = looker.get(PAGE).content.decode()
        assert PAGE in looker.get("/admin/").content.decode()
        assert "data-ask" not in page
        addresses = [reverse(f"{NAME}_{name}", args=[held.id]) for name in ("extend", "release")]
        addresses += [reverse(f"{NAME}_{name}", args=[product.pk]) for name in ("stop_product", "resume_product")]
        addresses += [reverse(f"{NAME}_{name}", args=[product.event_id]) for name in ("stop_event", "resume_event")]
        for address in [*addresses, reverse(f"{NAME}_release_expired")]:
            assert looker.get(address).status_code == looker.post(address).status_code == 403
        assert stock_of(product) == (1, 0)

    def test_each_permission_has_its_buttons(self, client: Client, product: Product) -> None:
        held = hold(product)
        page = _clerk(client, "view_reservation", "change_reservation").get(PAGE).content.decode()
        assert (f"release-{held.id}" in page, f"stop-{product.pk}" in page) == (True, False)
        page = _clerk(client, "view_reservation", "change_product").get(PAGE).content.decode()
        assert (f"release-{held.id}" in page, f"stop-{product.pk}" in page) == (False, True)

    def test_a_forged_form_is_refused(self, superuser: User, product: Product) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(superuser)
        assert strict.post(reverse(f"{NAME}_release", args=[hold(product).id])).status_code == 403
        assert stock_of(product) == (1, 0)


def _one_more_event(number: int) -> None:
    """With everything the dashboard shows."""
    event = EventFactory()
    slot = SlotFactory(event=event)
    product = ProductFactory(event=event, quotas=[QuotaFactory(event=event), QuotaFactory(event=event, slot=slot)])
    for _number in range(number):
        hold(product, slot=slot)
        unpaid_order(ProductFactory(event=event))
    end_time(hold(product, slot=slot).id)
    paid_order(ProductFactory(event=event))
    _conflict(product, slot=slot)


@pytest.mark.parametrize("part", ["", "main"])
def test_it_costs_the_same_with_one_event_and_with_four(desk: Client, part: str) -> None:
    def queries() -> int:
        desk.get(PAGE, {"part": part})
        with CaptureQueriesContext(connection) as captured:
            assert desk.get(PAGE, {"part": part}).status_code == 200
        return len(captured)

    _one_more_event(1)
    with_one = queries()
    for number in (1, 2, 3):
        _one_more_event(number)
    assert queries() == with_one
    assert with_one < 30


def test_no_number_reads_a_whole_table(desk: Client, product: Product) -> None:
    """With sequential scans forbidden where an index could do, each statement finds one: none is left without."""
    hold(product)
    with CaptureQueriesContext(connection) as captured:
        desk.get(PAGE)
    tables = ("reservations_reservation", "reservations_order", "reservations_conflict", "reservations_claim")
    big = re.compile(rf"Seq Scan on ({'|'.join(tables)}|reservations_reservationline)\b")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in captured.captured_queries:
            if '"reservations_' in query["sql"] or "FROM reservations_" in query["sql"]:
                cursor.execute("EXPLAIN " + query["sql"])
                plan = "\n".join(row[0] for row in cursor.fetchall())
                assert not big.search(plan), plan


@pytest.mark.browser
@pytest.mark.office
class TestInTheBrowser:
    @pytest.fixture
    def staff(self, office: Office) -> User:
        clerk = UserFactory(staff=True)
        clerk.set_password("a long enough one")
        clerk.save()
        return clerk

    @pytest.fixture(params=["phone-dark", "desktop-light"])
    def page(self, request: pytest.FixtureRequest, browser: Browser, office: Office, staff: User) -> Iterator[Page]:
        size, _dash, scheme = request.param.partition("-")
        complaints: list[str] = []
        context = open_context(browser, office.base_url, size, color_scheme=scheme)
        page = open_page(context, complaints)
        page.goto("/admin/login/")
        page.locator("[name=username]").fill(staff.email)
        page.locator("[name=password]").fill("a long enough one")
        page.locator("[type=submit]").click()
        page.wait_for_url("**/admin/")
        page.shot_name = request.param  # type: ignore[attr-defined]
        yield page
        context.close()
        assert complaints == []

    def test_a_clerk_looks_extends_and_stops(self, page: Page, shots: Path) -> None:
        product = ProductFactory(name="Floor", quotas__capacity=20)
        held = hold(product, 2)
        Reservation.objects.filter(pk=held.id).update(expires_at=Now() + timedelta(seconds=100))
        unpaid_order(product)
        paid_order(product, 3)
        _conflict(product, requests=4)
        page.goto(f"{PAGE}?event={product.event_id}")
        expect(page.locator("tr.rd-soon")).to_have_count(1)
        left = page.locator("tr.rd-soon time").inner_text()
        expect(page.locator("tr.rd-soon time")).not_to_have_text(left)  # it counts
        page.screenshot(path=shots / f"dashboard-{page.shot_name}.png", full_page=True)
        rules = {"region": {"enabled": False}}  # the theme's own heading stands outside every landmark
        standards = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
        found = Axe().run(page, options={"runOnly": standards, "rules": rules})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
        page.locator(f"#extend-{held.id}").click()
        expect(page.get_by_role("dialog")).to_contain_text("Extend this hold by how long?")
        page.screenshot(path=shots / f"dashboard-{page.shot_name}-question.png")
        page.keyboard.press("Escape")
        expect(page.locator(f"#extend-{held.id}")).to_be_focused()
        page.locator(f"#extend-{held.id}").click()
        page.get_by_role("button", name="10 minutes").click()
        expect(page.get_by_text("extended by 10 minutes")).to_be_visible()
        expect(page.locator("tr.rd-soon")).to_have_count(0)
        page.locator(f"#stop-{product.pk}").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop selling").click()
        expect(page.locator(f"#resume-{product.pk}")).to_be_visible()
        product.refresh_from_db()
        assert product.is_stopped

    def test_the_numbers_keep_fresh_until_they_are_paused(self, page: Page) -> None:
        product = ProductFactory(quotas__capacity=20)
        hold(product)
        page.clock.install()
        page.goto(f"{PAGE}?event={product.event_id}")
        live = page.locator(".rd-headline strong").first
        page.locator("#held-table summary").click()
        hold(product)
        page.clock.run_for(10_500)
        expect(live).to_have_text("2")
        expect(page.locator("#held-table")).to_have_attribute("open", "")  # what was open stays open
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("[data-freshness]")).to_contain_text("Paused at")
        hold(product)
        page.clock.run_for(30_000)
        expect(live).to_have_text("2")
        page.get_by_role("button", name="Resume").click()
        expect(live).to_have_text("3")
