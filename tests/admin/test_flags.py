"""Feature flags as staff turn them (P18)."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import caches
from django.test import Client
from django.urls import reverse
from waffle.models import Flag

from config import features
from tests.browsing import open_context, open_page
from tests.factories import UserFactory

pytestmark = pytest.mark.row("P18")
LIST = "/admin/waffle/flag/"


@pytest.fixture
def flag(db) -> Any:
    caches["switches"].clear()
    feature = features.REGISTRY["hosted-checkout"]
    yield Flag.objects.update_or_create(name=feature.name, defaults={"everyone": True, "note": feature.note})[0]
    caches["switches"].clear()


def _page(flag: Flag) -> str:
    return reverse("admin:waffle_flag_change", args=[flag.pk])


def _words(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


@pytest.mark.parametrize(
    ("form", "everyone", "percent", "shown"),
    [
        ({"on_for": "everyone"}, True, None, "everyone"),
        ({"on_for": "nobody", "percent": "25"}, False, 25, "nobody"),
        ({"on_for": "share", "percent": "12.5"}, None, 12.5, "12.5 %"),
    ],
)
def test_staff_turn_it(
    desk: Client, flag: Flag, form: dict[str, str], everyone: bool | None, percent: float | None, shown: str
) -> None:
    assert desk.post(_page(flag), form).status_code == 302
    flag.refresh_from_db()
    assert (flag.everyone, flag.percent) == (everyone, percent)
    caches["switches"].clear()  # as after ten seconds
    assert features.share(flag.name) == {True: 100, False: 0, None: 12.5}[everyone]
    assert f"hosted-checkout {shown} " in _words(desk.get(LIST))
    assert LogEntry.objects.get().object_repr == "hosted-checkout"


@pytest.mark.parametrize("percent", ["", "0", "100", "-1", "5.55", "many"])
def test_a_share_needs_a_percentage_that_is_one(desk: Client, flag: Flag, percent: str) -> None:
    answer = desk.post(_page(flag), {"on_for": "share", "percent": percent})
    assert "percent" in answer.context["adminform"].form.errors
    flag.refresh_from_db()
    assert flag.everyone is True


def test_its_name_and_its_words_are_the_codes(desk: Client, flag: Flag) -> None:
    desk.post(_page(flag), {"on_for": "nobody", "name": "renamed", "note": "forged", "superusers": "on"})
    after = Flag.objects.get(pk=flag.pk)
    assert (after.name, after.note) == (flag.name, flag.note)
    for address in (LIST, _page(flag)):
        assert "Every buyer pays in the form on our page." in _words(desk.get(address))


def test_none_can_be_added_or_deleted(desk: Client, flag: Flag) -> None:
    assert desk.get(f"{LIST}add/").status_code == 403
    assert desk.post(reverse("admin:waffle_flag_delete", args=[flag.pk]), {"post": "yes"}).status_code == 403
    assert "Feature flags" in _words(desk.get("/admin/"))
    assert "Switches" not in _words(desk.get("/admin/"))


def test_a_flag_that_this_version_does_not_know_is_shown_as_such(desk: Client) -> None:
    Flag.objects.create(name="of-the-next-version", note="Something new.")
    text = _words(desk.get(LIST))
    assert "Something new." in text
    assert "this version does not know it" in text


@pytest.mark.browser
@pytest.mark.office
@pytest.mark.parametrize("look", ["phone-dark", "desktop-light"])
def test_the_pages_in_a_browser(look: str, browser, office, shots) -> None:
    size, _dash, scheme = look.partition("-")
    clerk = UserFactory(staff=True)
    clerk.set_password("a long enough one")
    clerk.save()
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme=scheme)
    page = open_page(context, complaints)
    page.goto("/admin/login/")
    page.locator("[name=username]").fill(clerk.email)
    page.locator("[name=password]").fill("a long enough one")
    page.locator("[type=submit]").click()
    page.wait_for_url("**/admin/")
    page.goto(LIST)
    assert page.get_by_text("auto-refund").first.is_visible()
    page.screenshot(path=shots / f"flags-{look}.png", full_page=True)
    page.goto(_page(Flag.objects.get(name="auto-refund")))
    page.screenshot(path=shots / f"flag-{look}.png", full_page=True)
    page.get_by_label("a share").check()
    page.get_by_label("share in percent").fill("20")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"**{LIST}")
    assert Flag.objects.get(name="auto-refund").percent == 20
    Flag.objects.filter(name="auto-refund").update(everyone=True, percent=None)
    context.close()
    assert complaints == []
