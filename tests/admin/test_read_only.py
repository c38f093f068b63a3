"""Money and statuses are moved by domain functions; no form of the back office reaches them (T1)."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import models
from django.test import Client
from django.urls import reverse

from monitoring.models import Heartbeat
from payments.models import Breaker, Payment, StripeCalls, WebhookEvent
from payments.models import StatusChange as PaymentChange
from reservations.models import (
    Claim,
    Conflict,
    LimitHit,
    Order,
    OrderLine,
    Reservation,
    ReservationKey,
    ReservationLine,
    SweepRun,
    UsedSignature,
)
from reservations.models import StatusChange as OrderChange
from tests.admin.catalogue import newest, one_more_of_everything
from tests.factories import UserFactory
from ticketing.models import EventKey, OutgoingEmail, Quota, SerialCounter, Ticket, User
from ticketing.models import StatusChange as TicketChange

RECORDS = [
    Breaker,
    Claim,
    Conflict,
    EventKey,
    Heartbeat,
    LimitHit,
    LogEntry,
    Order,
    OrderChange,
    OrderLine,
    OutgoingEmail,
    Payment,
    PaymentChange,
    Reservation,
    ReservationKey,
    ReservationLine,
    SerialCounter,
    StripeCalls,
    SweepRun,
    Ticket,
    TicketChange,
    UsedSignature,
    WebhookEvent,
]
pytestmark = pytest.mark.row("T1")


def _name(model: type[models.Model]) -> str:
    return model._meta.label


def _address(model: type[models.Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def _forged(row: models.Model) -> dict[str, Any]:
    """Another value for every field of the row, as a hostile browser would send it."""
    form: dict[str, Any] = {}
    for field in row._meta.fields:
        if field.primary_key or field.is_relation:
            continue
        is_number = isinstance(field, models.IntegerField)
        form[field.name] = 999 if is_number else (field.choices or [("forged", "")])[-1][0]
    return form


@pytest.mark.parametrize("model", RECORDS, ids=_name)
def test_records_cannot_be_added_changed_or_deleted(model: type[models.Model], desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    row = newest(model)
    before = model._default_manager.filter(pk=row.pk).values().get()
    assert desk.post(_address(model, "add"), _forged(row)).status_code == 403
    assert desk.post(_address(model, "change", row.pk), _forged(row)).status_code == 403
    assert desk.post(_address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    desk.post(_address(model, "changelist"), selected)
    assert model._default_manager.filter(pk=row.pk).values().get() == before


def test_the_counters_of_a_quota_are_not_editable(desk: Client, superuser: User) -> None:
    one_more_of_everything(1, superuser)
    quota = newest(Quota)
    form = {"name": "renamed", "slot": "", "capacity": quota.capacity, "held": 0, "sold": 0, "event": 1}
    assert desk.post(_address(Quota, "change", quota.pk), form).status_code == 302
    after = Quota.objects.get(pk=quota.pk)
    assert (after.name, after.held, after.sold) == ("renamed", quota.held, quota.sold)


def test_no_list_edits_in_place() -> None:
    assert not [model for model, page in admin.site._registry.items() if page.list_editable]


def test_staff_cannot_make_themselves_superusers(client: Client, superuser: User) -> None:
    clerk = UserFactory(is_staff=True)
    clerk.user_permissions.set(_permissions("view_user", "change_user"))
    client.force_login(clerk)
    form = {"email": clerk.email, "name": clerk.name, "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    client.post(_address(User, "change", clerk.pk), form)
    clerk.refresh_from_db()
    assert not clerk.is_superuser
    assert client.post(_address(User, "change", superuser.pk), form | {"email": "mine@example.org"}).status_code == 403
    assert client.get(f"/admin/ticketing/user/{superuser.pk}/password/").status_code == 403


def _permissions(*codenames: str) -> models.QuerySet[Permission]:
    return Permission.objects.filter(codename__in=codenames)
