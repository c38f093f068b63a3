"""Promo codes as staff set them up and change them while they are being used (T15)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from reservations import holds
from reservations.admin import promo_codes
from reservations.models import PromoCode, Reservation
from tests.factories import EventFactory, ProductFactory, PromoCodeFactory
from ticketing.models import Event, Product

pytestmark = pytest.mark.row("T15")

ADD = "/admin/reservations/promocode/add/"
LIST = "/admin/reservations/promocode/"


def _form(event: Event, **more: Any) -> dict[str, Any]:
    return {"event": event.pk, "code": "welcome10", "percent_off": 10} | more


def _page(code: PromoCode) -> str:
    return reverse("admin:reservations_promocode_change", args=[code.pk])


def _errors(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.headers
    return answer.context["adminform"].form.errors


def _used(code: PromoCode, times: int, product: Product | None = None) -> PromoCode:
    """By so many holds, each taken through the engine."""
    for _number in range(times):
        wanted = holds.Wanted((product or ProductFactory(event=code.event)).pk, None, 1)
        holds.reserve(code.event.slug, lines=[wanted], promo_code=code.code)
    code.refresh_from_db()
    assert code.uses == times
    return code


@pytest.fixture
def code(db) -> PromoCode:
    return PromoCodeFactory(code="WELCOME10", max_uses=50)


class TestForm:
    def test_small_letters_become_capitals(self, desk: Client) -> None:
        event = EventFactory()
        answer = desk.post(ADD, _form(event))
        made = PromoCode.objects.get()
        assert answer.headers["Location"] == _page(made)  # its products are chosen next
        assert (made.code, made.percent_off, made.amount_off_minor, made.uses) == ("WELCOME10", 10, None, 0)

    @pytest.mark.parametrize(
        ("currency", "typed", "minor"), [("EUR", "5", 500), ("JPY", "500", 500), ("KWD", "0.250", 250)]
    )
    def test_an_amount_is_typed_in_major_units(self, desk: Client, currency: str, typed: str, minor: int) -> None:
        desk.post(ADD, _form(EventFactory(currency=currency), percent_off="", amount_off=typed))
        made = PromoCode.objects.get()
        assert (made.percent_off, made.amount_off_minor) == (None, minor)
        shown = desk.get(_page(made)).context["adminform"].form.initial["amount_off"]
        assert int(shown * {"EUR": 100, "JPY": 1, "KWD": 1000}[currency]) == minor

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"percent_off": "", "amount_off": "0"}, "amount_off"),
            ({"percent_off": "", "amount_off": "-1"}, "amount_off"),
            ({"percent_off": "", "amount_off": "1.005"}, "amount_off"),
            ({"percent_off": "101"}, "percent_off"),
            ({"percent_off": "0"}, "percent_off"),
            ({"percent_off": ""}, "__all__"),
            ({"amount_off": "5"}, "__all__"),
            ({"code": "ten per cent"}, "code"),
            ({"max_uses_per_buyer": "0"}, "max_uses_per_buyer"),
            (
                {"starts_at_0": "2027-01-10", "starts_at_1": "20:00", "ends_at_0": "2027-01-10", "ends_at_1": "20:00"},
                "ends_at",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, desk: Client, more: dict[str, Any], field: str) -> None:
        assert field in _errors(desk.post(ADD, _form(EventFactory(), **more)))
        assert not PromoCode.objects.exists()

    def test_times_are_those_of_the_events_clocks(self, desk: Client) -> None:
        event = EventFactory(time_zone="Asia/Tokyo")
        desk.post(ADD, _form(event, starts_at_0="2027-01-10", starts_at_1="20:00"))
        made = PromoCode.objects.get()
        assert made.starts_at == datetime(2027, 1, 10, 11, 0, tzinfo=UTC)
        assert 'value="20:00:00"' in desk.get(_page(made)).content.decode()

    def test_only_products_of_the_event(self, desk: Client, code: PromoCode) -> None:
        own, foreign = ProductFactory(event=code.event), ProductFactory(name="of somebody else")
        assert "of somebody else" not in desk.get(_page(code)).content.decode()
        assert "products" in _errors(desk.post(_page(code), _form(code.event, products=[foreign.pk])))
        assert desk.post(_page(code), _form(code.event, products=[own.pk])).status_code == 302
        assert list(code.products.all()) == [own]

    def test_two_codes_of_an_event_differ(self, desk: Client, code: PromoCode) -> None:
        assert "__all__" in _errors(desk.post(ADD, _form(code.event)))
        other = PromoCodeFactory(event=code.event, code="FRIENDS")
        assert "__all__" in _errors(desk.post(_page(other), _form(code.event)))
        assert desk.post(ADD, _form(EventFactory())).status_code == 302  # another event may have the same

    def test_the_event_stays(self, desk: Client, code: PromoCode) -> None:
        assert desk.post(_page(code), _form(EventFactory())).status_code == 302
        assert PromoCode.objects.get().event == code.event


class TestLimit:
    @pytest.fixture
    def busy(self, code: PromoCode) -> PromoCode:
        return _used(code, 3)

    def test_the_uses_are_shown(self, desk: Client, busy: PromoCode) -> None:
        for page in (LIST, _page(busy)):
            assert "3 of 50" in re.sub(r"\s+", " ", desk.get(page).content.decode())
        assert "Lowest value now: 3" in desk.get(_page(busy)).content.decode()

    def test_it_cannot_go_below_the_uses(self, desk: Client, busy: PromoCode) -> None:
        errors = _errors(desk.post(_page(busy), _form(busy.event, max_uses=2)))
        assert errors["max_uses"] == ["It is used 3 times right now: the limit cannot be lower than 3."]
        assert desk.post(_page(busy), _form(busy.event, max_uses=3)).status_code == 302
        busy.refresh_from_db()
        assert (busy.max_uses, busy.uses) == (3, 3)

    def test_losing_the_race_is_the_same_form_error(
        self, desk: Client, busy: PromoCode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The form's look at the uses is out of date by the time it saves: a buyer came in between."""
        true, lies = promo_codes._uses_now, [0]
        monkeypatch.setattr(promo_codes, "_uses_now", lambda pk: lies.pop() if lies else true(pk))
        errors = _errors(desk.post(_page(busy), _form(busy.event, max_uses=1)))
        assert "cannot be lower than 3" in str(errors["max_uses"])
        busy.refresh_from_db()
        assert busy.max_uses == 50

    def test_uses_that_moved_while_the_page_was_open_are_not_overwritten(
        self, desk: Client, busy: PromoCode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        true = promo_codes._uses_now

        def look(pk: int | None) -> int:
            PromoCode.objects.filter(pk=pk).update(uses=4)  # a buyer, between validation and saving
            return true(pk)

        monkeypatch.setattr(promo_codes, "_uses_now", look)
        assert desk.post(_page(busy), _form(busy.event, max_uses=20, percent_off=15)).status_code == 302
        busy.refresh_from_db()
        assert (busy.uses, busy.max_uses, busy.percent_off) == (4, 20, 15)

    def test_forged_uses_are_not_taken(self, desk: Client, busy: PromoCode) -> None:
        desk.post(_page(busy), _form(busy.event, uses=0))
        busy.refresh_from_db()
        assert busy.uses == 3


def test_each_state_has_its_name_and_its_filter(desk: Client) -> None:
    event, day = EventFactory(), timedelta(days=1)
    now = timezone.now()
    codes = {
        "valid": {"starts_at": now - day, "ends_at": now + day, "max_uses": 2, "uses": 1},
        "not_yet": {"starts_at": now + day},
        "over": {"ends_at": now - day},
        "used_up": {"max_uses": 2, "uses": 2},
        "stopped": {"is_stopped": True, "ends_at": now - day},
    }
    for state, fields in codes.items():
        PromoCodeFactory(event=event, code=state.upper().replace("_", "-"), **fields)
    for state in codes:
        rows = desk.get(LIST, {"state": state}).context["cl"].result_list
        assert [(row.code, row.state) for row in rows] == [(state.upper().replace("_", "-"), state)]
    assert len(desk.get(LIST).context["cl"].result_list) == len(codes)


class TestDeletion:
    def test_an_unused_code_goes(self, desk: Client, code: PromoCode) -> None:
        address = reverse("admin:reservations_promocode_delete", args=[code.pk])
        desk.post(address, {"post": "yes"})
        assert not PromoCode.objects.exists()

    def test_a_used_code_stays_and_the_page_says_why(self, desk: Client, code: PromoCode) -> None:
        _used(code, 1)
        address = reverse("admin:reservations_promocode_delete", args=[code.pk])
        assert "WELCOME10 was used" in desk.get(address).content.decode()
        answer = desk.post(address, {"post": "yes"})
        assert "WELCOME10 was used" in answer.content.decode()
        assert PromoCode.objects.exists()

    def test_many_at_once_too(self, desk: Client, code: PromoCode) -> None:
        _used(code, 1)
        unused = PromoCodeFactory(event=code.event, code="UNUSED")
        form = {"action": "delete_selected", "_selected_action": [code.pk, unused.pk], "post": "yes"}
        assert "WELCOME10 was used" in desk.post(LIST, form).content.decode()
        assert PromoCode.objects.count() == 2


class TestStop:
    def test_a_button_on_its_page(self, desk: Client, code: PromoCode) -> None:
        address = reverse("admin:reservations_promocode_stop_this", args=[code.pk])
        assert desk.get(address).status_code == 200
        desk.post(address, {"_form_submitted": "True"})
        code.refresh_from_db()
        assert code.is_stopped
        assert LogEntry.objects.get(object_id=str(code.pk)).get_change_message() == "stopped"
        with pytest.raises(holds.InvalidPromoCode):
            _used(code, 1)
        text = desk.get(_page(code)).content.decode()
        assert ("Make valid again" in text, "Stop this code?" in text) == (True, False)
        desk.post(reverse("admin:reservations_promocode_resume_this", args=[code.pk]), {"_form_submitted": "True"})
        code.refresh_from_db()
        assert not code.is_stopped

    def test_many_at_once(self, desk: Client, code: PromoCode) -> None:
        other = PromoCodeFactory(event=code.event, code="OTHER")
        for action, is_stopped in (("stop", True), ("resume", False)):
            desk.post(LIST, {"action": action, "_selected_action": [code.pk, other.pk]})
            assert set(PromoCode.objects.values_list("is_stopped", flat=True)) == {is_stopped}


def test_the_reservations_page_names_its_code(desk: Client, code: PromoCode) -> None:
    _used(code, 1)
    page = reverse("admin:reservations_reservation_change", args=[Reservation.objects.get().pk])
    assert "WELCOME10" in desk.get(page).content.decode()
