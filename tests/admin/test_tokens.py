"""A token acts as its user: nobody makes one for somebody above them."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from knox.models import AuthToken

from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def test_staff_make_tokens_for_themselves_only():
    boss, clerk = UserFactory(staff=True), UserFactory(is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["add_authtoken", "view_authtoken", "view_user"]))
    desk = Client()
    desk.force_login(clerk)
    expiry = {"expiry_0": "2030-01-01", "expiry_1": "00:00:00"}
    desk.post("/admin/knox/authtoken/add/", {"user": boss.pk, **expiry})
    assert not AuthToken.objects.filter(user=boss).exists()
    desk.post("/admin/knox/authtoken/add/", {"user": clerk.pk, **expiry})
    assert AuthToken.objects.filter(user=clerk).count() == 1


def test_staff_do_not_enlarge_groups():
    clerk = UserFactory(is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["change_group", "add_group", "view_group"]))
    desk = Client()
    desk.force_login(clerk)
    assert desk.post("/admin/auth/group/add/", {"name": "everything"}).status_code == 403
