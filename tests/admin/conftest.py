import pytest
from django.test import Client

from tests.factories import UserFactory
from ticketing.models import User


@pytest.fixture
def superuser(db) -> User:
    return UserFactory(staff=True, email="boss@example.org")


@pytest.fixture
def desk(superuser: User) -> Client:
    """A browser in which a superuser is signed in to the back office."""
    client = Client()
    client.force_login(superuser)
    return client
