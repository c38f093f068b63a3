"""Outgoing e-mail: queued once, sent once, tried for a day, never lost and never two senders at one letter."""

from datetime import timedelta
from functools import partial

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from config.failpoints import FailpointReached
from reservations import holds
from tests.brokers import closed_port
from tests.factories import EventFactory, OrganiserFactory, ProductFactory
from tests.purchases import check_out, end_time, hold, order_of
from tests.races import at_once
from ticketing import emails
from ticketing.models import OutgoingEmail, StatusChange, Ticket

pytestmark = pytest.mark.django_db

CONTEXT = {
    "organiser_name": "Harbour Hall",
    "reply_to": "desk@harbour.example",
    "event": {"name": "Night", "when": "soon", "venue_name": "Hall", "venue_address": "Kai 4"},
    "order": {"code": "ABCDEFGHJK", "name": "Ada", "total": "€25.00"},
    "event_url": "https://tickets.example/events/night/",
}


def queued(key: str = "order_expired:X", **changes) -> OutgoingEmail:
    given = {"kind": "order_expired", "to": "ada@example.org", "reference": "ABCDEFGHJK", "context": CONTEXT} | changes
    emails.queue(dedupe_key=key, **given)
    return OutgoingEmail.objects.get(dedupe_key=key)


@pytest.fixture
def no_mail_server(settings) -> None:
    """SMTP to a port that nobody listens on: connection refused, for real."""
    settings.EMAIL_PORT = closed_port()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"


def is_due(email: OutgoingEmail) -> None:
    OutgoingEmail.objects.filter(pk=email.pk).update(next_attempt_at=Now())


def due_in(email: OutgoingEmail) -> timedelta:
    waits = OutgoingEmail.objects.annotate(wait=F("next_attempt_at") - Now()).values_list("wait", flat=True)
    return timedelta(seconds=round(waits.get(pk=email.pk).total_seconds()))


@pytest.mark.row("HC-E5")
def test_hc_e5_a_letter_is_queued_once_and_sent_once():
    """HC-E5: the same cause twice is one letter; sent, it is not sent again."""
    email = queued()
    queued(to="somebody@else.example")
    assert OutgoingEmail.objects.count() == 1
    assert emails.send_due() == 1
    assert emails.send_due() == 0
    assert emails.send(email.pk) is False
    assert [message.to for message in mail.outbox] == [["ada@example.org"]]
    email.refresh_from_db()
    assert (email.status, email.attempts) == ("SENT", 1)
    assert email.sent_at is not None


@pytest.mark.row("HC-E5")
def test_a_letter_has_text_and_html_and_a_way_back():
    queued()
    emails.send_due()
    message = mail.outbox[0]
    html, kind = message.alternatives[0]
    assert kind == "text/html"
    for part in (message.body, html):
        for word in ("Ada", "Night", "ABCDEFGHJK", "https://tickets.example/events/night/"):
            assert word in part
    assert message.subject
    assert "\n" not in message.subject
    assert message.reply_to == ["desk@harbour.example"]
    assert message.extra_headers["Message-ID"].endswith("@localhost>")


@pytest.mark.row("HC-E6")
def test_hc_e6_a_letter_sent_twice_carries_the_same_message_id():
    """HC-E6: so that mail programs show it once; other letters carry others."""
    for email in (queued(), queued("order_expired:Y")):
        emails.send(email.pk)
    emails.send_again(OutgoingEmail.objects.get(dedupe_key="order_expired:X"), by="staff:1")
    emails.send_due()
    ids = [message.extra_headers["Message-ID"] for message in mail.outbox]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.row("HC-E5", "T3")
def test_the_confirmation_names_every_ticket_and_is_frozen(client):
    """T3: links made from PUBLIC_URL; names with markup are escaped in HTML and left alone in the text."""
    event = EventFactory(name="Cats & <b>Dogs</b>\nLive", organiser=OrganiserFactory(email="box@office.example"))
    held = hold(ProductFactory(free=True, event=event), 2)
    check_out(client, held.id)
    order = order_of(held.id)
    type(event).objects.update(name="Renamed")
    emails.send_due()
    message = mail.outbox[0]
    html = message.alternatives[0][0]
    assert "Cats & <b>Dogs</b>" in message.body
    assert "Cats &amp; &lt;b&gt;Dogs" in html
    assert "<b>Dogs" not in html
    assert "Renamed" not in message.body + html
    assert "\n" not in message.subject
    for ticket in Ticket.objects.all():
        for part in (message.body, html):
            assert f"http://testserver{ticket.get_absolute_url()}" in part
    assert order.code in message.body


def test_a_letters_status_is_one_of_its_enum_and_a_sent_one_has_its_time():
    email = queued()
    for constraint, change in (("email_status_is_known", "LOST"), ("email_sent_has_its_time", "SENT")):
        with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            OutgoingEmail.objects.filter(pk=email.pk).update(status=change)


@pytest.mark.row("P8", "HC-E5")
def test_a_dead_mail_server_is_tried_slower_and_slower_for_a_day(no_mail_server):
    """The letter waits in its row with the reason; after the last wait it is DEAD, and other letters go on."""
    email = queued()
    waits = []
    for attempt in range(1, len(emails.WAITS) + 1):
        assert emails.send_due() == 0
        email.refresh_from_db()
        assert (email.status, email.attempts) == ("PENDING", attempt)
        assert "ConnectionRefusedError" in email.last_error
        waits.append(due_in(email))
        assert emails.send_due() == 0, "not before its time"
        email.refresh_from_db()
        assert email.attempts == attempt
        is_due(email)
    assert emails.send_due() == 0
    email.refresh_from_db()
    assert (email.status, email.attempts) == ("DEAD", len(emails.WAITS) + 1)
    assert waits == emails.WAITS
    assert timedelta(hours=20) < sum(waits, timedelta()) < timedelta(days=2)
    assert StatusChange.objects.get(kind="outgoingemail").to_status == "DEAD"


@pytest.mark.row("HC-E10")
def test_a_letter_that_cannot_be_sent_does_not_hold_up_the_others():
    """A broken address first in the queue."""
    broken = queued("broken", context=CONTEXT | {"reply_to": "not an\naddress"})
    queued("fine")
    assert emails.send_due() == 1
    broken.refresh_from_db()
    assert (broken.status, broken.attempts) == ("PENDING", 1)
    assert broken.last_error


@pytest.mark.row("HC-E5")
@pytest.mark.parametrize(("place", "sent"), [("before_email", 0), ("after_email_before_mark", 1)])
def test_hc_e5_a_sender_that_dies_leaves_a_lease_that_ends(settings, place, sent):
    """HC-E5: nobody else takes the letter meanwhile; then the sweep does."""
    email = queued()
    settings.FAILPOINTS = {place: "raise"}
    with pytest.raises(FailpointReached):
        emails.send(email.pk)
    settings.FAILPOINTS = {}
    assert len(mail.outbox) == sent
    assert emails.send_due() == 0
    assert due_in(email) == emails.LEASE
    is_due(email)
    assert emails.send_due() == 1
    email.refresh_from_db()
    assert (email.status, email.attempts) == ("SENT", 2)


@pytest.mark.row("P8")
@pytest.mark.parametrize("status", ["PENDING", "SENT", "DEAD"])
def test_staff_may_send_a_letter_again(status):
    """P8: from any state: due at once with all its tries, to the address it now has."""
    email = queued()
    if status == "SENT":
        emails.send(email.pk)
    OutgoingEmail.objects.update(to="new@example.org", attempts=7, next_attempt_at=Now() + timedelta(hours=5))
    if status == "DEAD":
        OutgoingEmail.objects.update(status="DEAD")
    email.refresh_from_db()
    emails.send_again(email, by="staff:1")
    email.refresh_from_db()
    assert (email.status, email.attempts, email.sent_at) == ("PENDING", 0, None)
    assert emails.send_due() == 1
    assert mail.outbox[-1].to == ["new@example.org"]


@pytest.mark.row("P8")
def test_letters_go_out_oldest_first_and_so_many_at_a_time():
    for number in range(5):
        email = queued(str(number), to=f"{number}@example.org")
        OutgoingEmail.objects.filter(pk=email.pk).update(next_attempt_at=Now() - timedelta(minutes=number))
    assert emails.send_due(limit=3) == 3
    assert [message.to[0][0] for message in mail.outbox] == ["4", "3", "2"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("HC-E5", "HC-E7")
def test_hc_e7_ten_senders_at_once_send_one_letter():
    """HC-E7: redelivered tasks and sweeps at the same moment."""
    email = queued()
    results = at_once([partial(emails.send, email.pk)] * 10)
    assert sorted(results) == [False] * 9 + [True]
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("HC-E5", "HC-E7")
def test_ten_causes_at_once_are_one_letter():
    at_once([partial(queued, "same")] * 10)
    assert OutgoingEmail.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.row("HC-E3")
def test_hc_e3_a_letter_exists_only_with_its_cause():
    """HC-E3: rolled back with it."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        queued()
        raise ZeroDivisionError
    assert not OutgoingEmail.objects.exists()


def test_a_hold_that_merely_ends_writes_to_nobody():
    held = hold(ProductFactory())
    end_time(held.id)
    assert holds.release_expired() == 1
    assert not OutgoingEmail.objects.exists()
