"""Tickets come into being: serials without gaps, secrets nobody guesses, passes with their entries."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import IntegrityError, transaction

from tests.factories import EventFactory, ProductFactory
from tests.purchases import sql
from tests.races import at_once
from ticketing import issuing
from ticketing.models import EventKey, Product, SerialCounter, Ticket

NOW = datetime(2026, 3, 28, 12, tzinfo=UTC)


def unit(product: Product, name: str) -> issuing.Unit:
    return issuing.Unit(
        issue_key=name, product=product, slot_id=None, holder_name="Ada", holder_email="ada@example.org"
    )


def issue(product: Product, *names: str) -> list[Ticket]:
    units = [unit(product, name) for name in names]
    return issuing.issue(event_id=product.event_id, units=units, now=NOW)


def serials(product: Product) -> list[int]:
    return list(Ticket.objects.filter(event=product.event_id).order_by("serial").values_list("serial", flat=True))


@pytest.mark.django_db
@pytest.mark.row("T4")
def test_serials_count_per_event():
    """T4: 1, 2, 3 for each event, whatever the other ones do."""
    here, there = ProductFactory(), ProductFactory()
    issue(here, "a", "b")
    issue(there, "c")
    issue(here, "d")
    assert (serials(here), serials(there)) == ([1, 2, 3], [1])
    assert Ticket.objects.get(issue_key="d").number == f"{here.event_id}-000003"


@pytest.mark.django_db
@pytest.mark.row("T3")
def test_issuing_again_finds_what_was_issued():
    """T3: the same units give the same tickets, in the order asked; a mixture makes what is missing."""
    product = ProductFactory()
    first = issue(product, "a", "b")
    again = issue(product, "b", "c", "a")
    assert [ticket.pk for ticket in again[::2]] == [first[1].pk, first[0].pk]
    assert serials(product) == [1, 2, 3]
    assert issue(product) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("T4")
def test_a_rolled_back_issue_leaves_no_gap():
    """T4: counter and tickets commit together."""
    product = ProductFactory()
    issue(product, "a")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        issue(product, "b", "c")
        raise ZeroDivisionError
    issue(product, "d")
    assert serials(product) == [1, 2]
    assert SerialCounter.objects.get(event=product.event_id).last_serial == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("T3", "T4")
def test_twenty_issuers_at_once_leave_no_gap_and_no_double():
    """T3, T4: half of them the same units, half their own; the first of all makes the event's only key."""
    product = ProductFactory()
    shared = [partial(issue, product, "x", "y")] * 10
    own = [partial(issue, product, f"own-{n}") for n in range(10)]
    results = at_once([*shared, *own])
    assert all(isinstance(result, list) for result in results), results
    assert len({tuple(ticket.pk for ticket in result) for result in results[:10]}) == 1
    assert serials(product) == list(range(1, 13))
    assert EventKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("T4")
def test_a_sequence_would_leave_gaps():
    """T4, the other way of counting: what a rolled back transaction does to a sequence."""
    sql("CREATE SEQUENCE serials_of_an_event")
    try:
        product = ProductFactory()
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            sql("SELECT nextval('serials_of_an_event')")
            raise ZeroDivisionError
        issue(product, "a")
        sql("UPDATE ticketing_ticket SET serial = nextval('serials_of_an_event')")
        assert serials(product) == [2]
    finally:
        sql("DROP SEQUENCE serials_of_an_event")


@pytest.mark.django_db
@pytest.mark.row("T4")
def test_the_database_refuses_doubles():
    """T4: the same serial, secret or cause twice; more entries used than there are."""
    product = ProductFactory()
    first, second = issue(product, "a", "b")
    cases = {
        "ticket_serials_are_unique_within_an_event": {"serial": first.serial},
        "ticketing_ticket_secret_key": {"secret": first.secret},
        "ticketing_ticket_issue_key_key": {"issue_key": first.issue_key},
        "ticket_admits_at_most_its_entries": {"entries_used": 2},
    }
    for constraint, change in cases.items():
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Ticket.objects.filter(pk=second.pk).update(**change)


@pytest.mark.django_db
@pytest.mark.row("T4")
def test_secrets_are_long_and_differ():
    """T4: 128 random bits each, safe in addresses."""
    tickets = issue(ProductFactory(), *map(str, range(100)))
    secrets = {ticket.secret for ticket in tickets}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {22}
    assert all(secret.replace("-", "").replace("_", "").isalnum() for secret in secrets)


@pytest.mark.django_db
@pytest.mark.row("T4")
def test_a_pass_has_entries_and_days_from_the_purchase():
    """T4: everything else admits once, for ever."""
    event = EventFactory()
    classes = issue(ProductFactory(event=event, five_classes=True), "pass")[0]
    endless = issue(ProductFactory(event=event, kind="PASS", entries=3), "endless")[0]
    admission = issue(ProductFactory(event=event, entries=5, valid_days=10), "admission")[0]
    assert (classes.entries_total, classes.valid_from, classes.valid_until) == (5, NOW, NOW + timedelta(days=120))
    assert (endless.entries_total, endless.valid_from, endless.valid_until) == (3, None, None)
    assert (admission.entries_total, admission.valid_from, admission.valid_until) == (1, None, None)
