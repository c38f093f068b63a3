"""The circuit breaker in the back office: what is the matter, how calls go, and what staff may do (P6, HC-G1)."""

import re
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Permission
from django.db.models.functions import Now
from django.test import Client
from waffle.testutils import override_flag

from payments import breaker
from payments.models import Breaker, StatusChange, StripeCalls
from tests.browsing import open_context, open_page
from tests.factories import UserFactory

pytestmark = pytest.mark.row("P6")
PAGE = "/admin/payments/breaker/"


def _words(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def _down(outcome: str = "UNAVAILABLE") -> None:
    for _ in range(breaker.TRIES_AT_LEAST):
        breaker.report("create", outcome, 900, passed=breaker.Pass())


def _warnings(desk: Client) -> list[str]:
    return [text for text in desk.get("/admin/").context["warnings"] if "paused" in text]


def test_the_page_tells_what_is_the_matter(desk: Client) -> None:
    assert "Calls go through" in _words(desk.get(PAGE))
    _down()
    text = _words(desk.get(PAGE))
    assert "Payments are paused" in text
    assert "Unavailable: 6 of 6 tries failed in 30 seconds. Next look in" in text
    Breaker.objects.update(changed_at=Now() - 2 * breaker.REST)
    breaker.enter()
    assert "One call tries whether Stripe is back" in _words(desk.get(PAGE))


def test_the_page_shows_how_calls_went_in_the_last_hour(desk: Client) -> None:
    for minutes, outcome, calls in ((0, "OK", 7), (30, "UNAVAILABLE", 3), (70, "OK", 100)):
        at = Now() - timedelta(minutes=minutes)
        StripeCalls.objects.create(at=at, operation="create", outcome=outcome, calls=calls, milliseconds=100 * calls)
    context = desk.get(PAGE).context
    drawn = context["chart"]
    assert [sum(values) for values in zip(*(column.values for column in drawn.columns), strict=True)] == [7, 0, 0, 3, 0]
    assert drawn.columns[-1].values[0] == 7
    (operation,) = context["operations"]
    assert (operation.name, operation.calls, operation.average, operation.failures) == ("create", 10, "100 ms", 3)


@pytest.mark.row("HC-G1")
def test_hc_g1_staff_see_on_the_index_that_payments_are_paused(desk: Client) -> None:
    assert _warnings(desk) == []
    _down()
    assert "Stripe does not answer" in _warnings(desk)[0]
    with override_flag(breaker.FLAG, active=False):
        assert _warnings(desk) == []
    Breaker.objects.update(changed_at=Now() - 2 * breaker.REST)
    breaker.enter()
    assert len(_warnings(desk)) == 1, "half open"
    breaker.close(by="staff:1")
    assert _warnings(desk) == []


@pytest.mark.row("HC-G6")
def test_hc_g6_staff_see_on_the_index_that_the_key_is_refused(desk: Client) -> None:
    _down("MISCONFIGURED")
    assert "STRIPE_SECRET_KEY" in _warnings(desk)[0]
    assert "STRIPE_SECRET_KEY" in _words(desk.get(PAGE))


def test_staff_pause_payments_with_a_reason_and_let_them_through_again(desk: Client, superuser) -> None:
    assert not breaker.is_open()
    assert "Pause payments?" in _words(desk.get(f"{PAGE}pause/"))
    assert not breaker.is_open(), "asking does nothing"
    answer = desk.post(f"{PAGE}pause/", {"why": "Stripe called us"}, follow=True)
    assert "By staff: “Stripe called us”" in _words(answer)
    assert "Stripe called us" in _warnings(desk)[0]
    assert breaker.is_open()
    again = desk.post(f"{PAGE}pause/", {"why": "once more"}, follow=True)
    assert "Payments were paused already." in _words(again)
    assert "Let calls to Stripe through now?" in _words(desk.get(f"{PAGE}close/"))
    assert breaker.is_open()
    assert "Calls to Stripe go through again." in _words(desk.post(f"{PAGE}close/", follow=True))
    assert not breaker.is_open()
    assert "It was closed already." in _words(desk.post(f"{PAGE}close/", follow=True))
    assert set(StatusChange.objects.values_list("by", flat=True)) == {f"staff:{superuser.pk}"}


@pytest.mark.parametrize("why", ["", "   ", "x" * 251])
def test_a_pause_needs_a_reason(desk: Client, why: str) -> None:
    answer = desk.post(f"{PAGE}pause/", {"why": why})
    assert answer.status_code == 422
    assert "Say why" in _words(answer)
    assert not breaker.is_open()


def test_who_may_only_look_may_only_look(db, client: Client) -> None:
    clerk = UserFactory(is_staff=True)
    client.force_login(clerk)
    assert client.get(PAGE).status_code == 403
    clerk.user_permissions.set(Permission.objects.filter(codename="view_breaker"))
    assert "Pause payments" not in _words(client.get(PAGE))
    for deed in ("pause", "close"):
        assert client.get(f"{PAGE}{deed}/").status_code == 403
        assert client.post(f"{PAGE}{deed}/", {"why": "mischief"}).status_code == 403
    assert not breaker.is_open()


def test_its_flag_off_the_page_says_that_nothing_is_stopped(desk: Client) -> None:
    _down()
    with override_flag(breaker.FLAG, active=False):
        text = _words(desk.get(PAGE))
    assert "every call goes through" in text
    assert "Payments are paused" not in text


@pytest.mark.browser
@pytest.mark.office
@pytest.mark.parametrize("look", ["phone-dark", "desktop-light"])
def test_a_clerk_pauses_payments_in_a_browser(look: str, browser, office, shots) -> None:
    size, _dash, scheme = look.partition("-")
    clerk = UserFactory(staff=True)
    clerk.set_password("a long enough one")
    clerk.save()
    for number in range(18):
        at = Now() - timedelta(minutes=3 * number)
        for outcome, calls in (("OK", 40 + 7 * number), ("REFUSED", 9), ("UNAVAILABLE", 5 * (number % 4))):
            values = {"operation": f"op {number % 3}", "outcome": outcome, "calls": calls, "milliseconds": calls * 230}
            if calls:
                StripeCalls.objects.create(at=at, **values)
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme=scheme)
    page = open_page(context, complaints)
    page.goto("/admin/login/")
    page.locator("[name=username]").fill(clerk.email)
    page.locator("[name=password]").fill("a long enough one")
    page.locator("[type=submit]").click()
    page.wait_for_url("**/admin/")
    try:
        page.goto(PAGE)
        page.get_by_role("link", name="Pause payments").click()
        page.screenshot(path=shots / f"breaker-{look}-question.png", full_page=True)
        page.get_by_label("Why, for your colleagues").fill("Stripe asked us to wait")
        page.get_by_role("button", name="Pause payments").click()
        page.wait_for_url(f"**{PAGE}")
        page.screenshot(path=shots / f"breaker-{look}.png", full_page=True)
        rules = {"region": {"enabled": False}}  # the theme's own heading stands outside every landmark
        standards = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
        found = Axe().run(page, options={"runOnly": standards, "rules": rules})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
        page.goto("/admin/")
        page.screenshot(path=shots / f"breaker-{look}-index.png")
        assert page.get_by_text("Staff have paused payments").is_visible()
        page.goto(PAGE)
        page.get_by_role("link", name="Let calls through now").click()
        page.get_by_role("button", name="Let calls through").click()
        page.wait_for_url(f"**{PAGE}")
        assert page.get_by_role("heading", name="Calls go through").is_visible()
    finally:
        breaker.close(by="test")
    context.close()
    assert complaints == []
