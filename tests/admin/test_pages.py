"""Every page of the back office opens, and costs the same with one row as with three (T1, M7)."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin.catalogue import newest, one_more_of_everything
from tests.factories import ProductFactory, QuotaFactory, SlotFactory, UserFactory
from ticketing.models import Event, EventKey, User

OURS = ("ticketing", "reservations", "payments", "monitoring")
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
pytestmark = pytest.mark.row("T1")


def _name(model: type) -> str:
    return model._meta.label  # type: ignore[attr-defined]


def _address(model: type, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)  # type: ignore[attr-defined]


def _queries(client: Client, address: str) -> int:
    client.get(address)  # what Django caches (content types) is cached now
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert client.get(address).status_code == 200, address
    return len(queries)


def test_every_model_of_ours_is_registered() -> None:
    models = {model for app in OURS for model in apps.get_app_config(app).get_models()}
    through = {model for model in models if model._meta.auto_created}
    assert models - through <= set(REGISTERED)


def _costs(client: Client, page: str) -> dict[str, int]:
    """Queries of each model's list, or of its newest row's page."""
    rows = {model: () if page == "changelist" else (newest(model).pk,) for model in REGISTERED}
    return {_name(model): _queries(client, _address(model, page, *args)) for model, args in rows.items()}


@pytest.mark.parametrize("page", ["changelist", "change"])
def test_pages_cost_the_same_with_one_row_and_with_three(page: str, desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    with_one = _costs(desk, page)
    one_more_of_everything(2, superuser)
    one_more_of_everything(3, superuser)
    assert _costs(desk, page) == with_one


def test_empty_forms_open_where_adding_is_allowed(desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    for model in REGISTERED:
        answer = desk.get(_address(model, "add"))
        is_allowed = admin.site._registry[model].has_add_permission(answer.wsgi_request)
        assert answer.status_code == (200 if is_allowed else 403), model


def test_searching_opens_whatever_is_typed(desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    for model in REGISTERED:
        for term in ("17", "7-000017", "ada@example.org", "evt_1", "b1b8c0de-0000-4000-8000-000000000000", "%"):
            assert desk.get(_address(model, "changelist"), {"q": term}).status_code == 200, (model, term)


def test_an_events_page_costs_the_same_with_more_slots_quotas_and_products(desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    event = newest(Event)
    before = _queries(desk, _address(Event, "change", event.pk))
    for _number in range(3):
        slot = SlotFactory(event=event)
        ProductFactory(event=event, quotas=[QuotaFactory(event=event, slot=slot)])
    assert _queries(desk, _address(Event, "change", event.pk)) == before


def test_the_private_key_is_on_no_page(desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    key = newest(EventKey)
    for page in (_address(EventKey, "changelist"), _address(EventKey, "change", key.pk)):
        text = desk.get(page).content.decode()
        assert bytes(key.public_key).hex() in text
        assert bytes(key.private_key).hex() not in text
        assert "private" not in text.lower()


def test_staff_sign_in_by_e_mail_and_buyers_do_not(db, client: Client) -> None:
    for email, is_staff in (("clerk@example.org", True), ("buyer@example.org", False)):
        user = UserFactory(email=email, is_staff=is_staff)
        user.set_password("a long enough one")
        user.save()
        answer = client.post("/admin/login/", {"username": email.upper(), "password": "a long enough one"})
        assert answer.status_code == (302 if is_staff else 200)
        if is_staff:
            assert answer.headers["Location"] == "/admin/"
        client.logout()


def test_staff_without_permissions_see_no_numbers_and_no_links(db, client: Client) -> None:
    client.force_login(UserFactory(is_staff=True))
    text = client.get("/admin/").content.decode()
    assert "Orders paid today" not in text
    assert "/admin/reservations/order/" not in text


def test_the_back_office_has_a_content_policy_of_its_own(desk: Client) -> None:
    policy = desk.get("/admin/").headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy
    assert "unsafe-eval" not in desk.get("/").headers["Content-Security-Policy"]
