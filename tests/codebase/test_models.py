"""Every status is guarded by the database, every table of transitions speaks of its own enum, no migration is missing."""

import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.db import connection, models

from config.state_machine import move

APPS = ("ticketing", "reservations", "payments", "monitoring")
MODELS = [model for app in APPS for model in apps.get_app_config(app).get_models()]
WITH_STATUS = [model for model in MODELS if "status" in {field.name for field in model._meta.fields}]
MOVED = [model for model in WITH_STATUS if hasattr(model, "TRANSITIONS")]


def check_constraints(model: type[models.Model]) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass",
            [model._meta.db_table],
        )
        return dict(cursor.fetchall())


def test_there_are_models_to_look_at():
    assert {model.__name__ for model in MOVED} >= {"Reservation", "Order", "Payment", "Ticket", "OutgoingEmail"}
    assert len(WITH_STATUS) > len(MOVED), "the event's status is set by staff"


@pytest.mark.django_db
@pytest.mark.parametrize("model", WITH_STATUS, ids=lambda model: model.__name__)
def test_every_status_is_kept_inside_its_enum_by_the_database(model):
    """The constraint of the real database names exactly the values of the enum."""
    named = [text for name, text in check_constraints(model).items() if name.endswith("_status_is_known")]
    assert len(named) == 1
    assert set(re.findall(r"'([A-Z_]+)'", named[0])) == set(model.Status.values)


@pytest.mark.parametrize("model", MOVED, ids=lambda model: model.__name__)
def test_transitions_speak_of_their_own_enum(model):
    """Targets and sources exist, none leads to itself, and every status can be reached or is the first."""
    statuses = set(model.Status.values)
    reached = set(model.TRANSITIONS)
    assert reached <= statuses
    for target, sources in model.TRANSITIONS.items():
        assert sources
        assert set(sources) <= statuses - {target}
    assert statuses - reached <= {model._meta.get_field("status").default}


@pytest.mark.parametrize("model", MOVED, ids=lambda model: model.__name__)
def test_every_app_that_moves_statuses_keeps_a_history(model):
    history = apps.get_model(model._meta.app_label, "StatusChange")
    assert model._meta.get_field("status").max_length <= history._meta.get_field("to_status").max_length
    assert len(model._meta.model_name) <= history._meta.get_field("kind").max_length
    assert callable(move)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model._meta.app_label}.{model.__name__}")
def test_every_constraint_of_the_models_is_in_the_database(model):
    with connection.cursor() as cursor:
        existing = connection.introspection.get_constraints(cursor, model._meta.db_table)
    assert {constraint.name for constraint in model._meta.constraints} <= set(existing)
    assert {index.name for index in model._meta.indexes} <= set(existing)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model._meta.app_label}.{model.__name__}")
def test_money_is_never_a_float_and_instants_have_a_zone(model):
    for field in model._meta.fields:
        assert not isinstance(field, (models.FloatField, models.DecimalField)), field
        if field.name.endswith("_minor"):
            assert isinstance(field, models.PositiveBigIntegerField), field
        if field.name.endswith("_at"):
            assert isinstance(field, models.DateTimeField), field


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model._meta.app_label}.{model.__name__}")
def test_staff_can_see_every_model(model):
    """Registered with a page of its own, or shown inside another's."""
    inline = {inline.model for page in admin.site._registry.values() for inline in page.inlines}
    assert model in admin.site._registry or model in inline
