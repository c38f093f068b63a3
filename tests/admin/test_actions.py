"""What staff may do about an order, a payment's events, a letter, a hold: one domain call each, refused in words (T1)."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from payments.models import WebhookEvent
from reservations.models import Order, Reservation
from reservations.models import StatusChange as OrderChange
from tests.admin.catalogue import paid_order, unpaid_order, webhook_event
from tests.factories import ProductFactory, UserFactory
from tests.purchases import hold, ordered, stock_of
from tests.stripe_sandbox.process import SandboxProcess
from ticketing.models import OutgoingEmail, Product, Ticket, User

pytestmark = pytest.mark.row("T1")


def _said(answer: Any) -> list[tuple[str, str]]:
    """What this answer adds to the messages; the browser here follows no redirect, so earlier ones still wait."""
    request = answer.wsgi_request
    return [(message.level_tag, str(message)) for message in get_messages(request)._queued_messages]


def _choose(desk: Client, action: str, *rows: Model, **more: Any) -> Any:
    """An action chosen on the list, for these rows."""
    opts = rows[0]._meta
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
    return desk.post(reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"), form)


def _press(desk: Client, action: str, row: Model) -> Any:
    """A button on the row's own page, its question answered with yes."""
    opts = row._meta
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_{action}", args=[row.pk])
    assert desk.get(address).status_code == 200  # the question; asking changes nothing
    answer = desk.post(address, {"_form_submitted": "True"})
    assert answer.headers["HX-Redirect"] == reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[row.pk])
    return answer


@pytest.fixture
def product(db) -> Product:
    return ProductFactory()


class TestEnsureTickets:
    def test_issues_what_is_missing(self, desk: Client, product: Product) -> None:
        order = paid_order(product, 2)
        order.lines.update(ticket=None)
        Ticket.objects.all().delete()
        assert _said(_press(desk, "ensure_these_tickets", order)) == [("success", f"{order.code}: 2 tickets issued")]
        assert Ticket.objects.count() == 2

    def test_many_at_once_each_with_its_answer(self, desk: Client, product: Product) -> None:
        paid, unpaid = paid_order(product), unpaid_order(product)
        assert sorted(_said(_choose(desk, "ensure_tickets", paid, unpaid))) == [
            ("success", f"{paid.code}: nothing was missing"),
            ("warning", f"{unpaid.code}: It is not paid; no tickets are owed."),
        ]


@pytest.mark.django_db(transaction=True)
class TestWithStripe:
    @pytest.fixture
    def open_order(self, desk: Client, sandbox: SandboxProcess) -> Iterator[Order]:
        yield ordered(Client(), ProductFactory())[0]

    def test_close_cancels_at_stripe_and_frees_the_stock(
        self, desk: Client, open_order: Order, superuser: User, sandbox: SandboxProcess
    ) -> None:
        answer = _press(desk, "close_this", open_order)
        assert _said(answer) == [("success", f"{open_order.code}: closed, its stock is free again")]
        open_order.refresh_from_db()
        assert open_order.status == Order.Status.CANCELLED
        assert stock_of(open_order.lines.get().product) == (0, 0)
        intent = open_order.payments.get().stripe_payment_intent_id or ""
        assert sandbox.control.payment(intent)["payment_intent"]["status"] == "canceled"
        assert OrderChange.objects.filter(kind="order", by=f"staff:{superuser.pk}").count() == 1
        assert LogEntry.objects.filter(object_id=str(open_order.pk)).count() == 1

    def test_closing_what_was_paid_meanwhile_settles_it(
        self, desk: Client, open_order: Order, sandbox: SandboxProcess
    ) -> None:
        sandbox.control.pay(open_order.payments.get().stripe_payment_intent_id or "")
        [(level, text)] = _said(_press(desk, "close_this", open_order))
        assert (level, "Stripe has its money" in text) == ("warning", True)
        open_order.refresh_from_db()
        assert open_order.status == Order.Status.PAID

    def test_closing_many_asks_first(self, desk: Client, open_order: Order) -> None:
        question = _choose(desk, "close", open_order)
        assert open_order.code in question.content.decode()
        open_order.refresh_from_db()
        assert open_order.status == Order.Status.AWAITING_PAYMENT
        _choose(desk, "close", open_order, confirmed="yes")
        open_order.refresh_from_db()
        assert open_order.status == Order.Status.CANCELLED

    def test_ask_stripe_settles(self, desk: Client, open_order: Order, sandbox: SandboxProcess) -> None:
        sandbox.control.pay(open_order.payments.get().stripe_payment_intent_id or "")
        assert _said(_press(desk, "ask_stripe_now", open_order)) == [("success", f"{open_order.code}: is paid")]

    def test_stripe_away_is_a_warning(self, desk: Client, open_order: Order, settings) -> None:
        settings.STRIPE_SECRET_KEY = ""
        [(level, text)] = _said(_choose(desk, "ask_stripe", open_order))
        assert (level, "could not be asked" in text) == ("warning", True)
        [(level, text)] = _said(_press(desk, "close_this", open_order))
        assert (level, "The seats stay kept" in text) == ("warning", True)


def test_a_review_is_ended_by_staff(desk: Client, product: Product) -> None:
    order = paid_order(product)
    assert _said(_press(desk, "review_is_done", order)) == [("warning", f"{order.code}: It needs no review.")]
    Order.objects.update(needs_review="paid twice")
    assert _said(_press(desk, "review_is_done", order)) == [("success", f"{order.code}: reviewed")]
    order.refresh_from_db()
    assert (order.status, order.needs_review) == (Order.Status.PAID, "")


def test_a_paid_order_is_not_closed(desk: Client, product: Product) -> None:
    order = paid_order(product)
    assert _said(_choose(desk, "close", order, confirmed="yes")) == [
        ("warning", f"{order.code}: It is paid; only unpaid orders are closed.")
    ]


def test_at_most_twenty_orders_ask_stripe_at_once(desk: Client, product: Product) -> None:
    Product.objects.update(max_per_order=1)
    roomy = ProductFactory(quotas__capacity=30)
    orders = [unpaid_order(roomy) for _number in range(21)]
    [(level, text)] = _said(_choose(desk, "ask_stripe", *orders))
    assert (level, "at most 20" in text) == ("warning", True)


class TestRequeue:
    def test_one_dead_event(self, desk: Client) -> None:
        event = webhook_event(1, status="DEAD", attempts=10)
        assert _said(_press(desk, "requeue_this", event))[0][0] == "success"
        event.refresh_from_db()
        assert (event.status, event.attempts) == ("RECEIVED", 0)

    def test_many_and_a_refusal(self, desk: Client) -> None:
        dead = [webhook_event(number, status=status) for number, status in enumerate(["DEAD", "PARKED", "DEAD"])]
        processed = webhook_event(9, status="PROCESSED")
        levels = sorted(level for level, _text in _said(_choose(desk, "requeue", *dead, processed)))
        assert levels == ["success", "success", "success", "warning"]
        assert WebhookEvent.objects.filter(status="RECEIVED").count() == 3


def test_a_letter_is_sent_again(desk: Client, product: Product) -> None:
    """T6: resend from admin."""
    paid_order(product)
    email = OutgoingEmail.objects.get()
    OutgoingEmail.objects.update(status="DEAD", attempts=9, next_attempt_at=timezone.now() + timedelta(days=1))
    assert _said(_press(desk, "send_this_again", email)) == [("success", f"{email}: queued to be sent again")]
    email.refresh_from_db()
    assert (email.status, email.attempts) == ("PENDING", 0)
    assert _said(_choose(desk, "send_again", email))[0][0] == "success"


class TestRelease:
    def test_gives_the_stock_back_once(self, desk: Client, product: Product) -> None:
        """H6, by staff."""
        reservation = Reservation.objects.get(pk=hold(product, 2).id)
        assert stock_of(product) == (2, 0)
        assert _said(_press(desk, "release_this", reservation)) == [("success", f"{reservation.pk}: released")]
        assert stock_of(product) == (0, 0)
        assert _said(_choose(desk, "release", reservation, confirmed="yes"))[0][0] == "warning"
        assert stock_of(product) == (0, 0)

    def test_ordered_and_paid_ones_are_refused(self, desk: Client, product: Product) -> None:
        rows = [order.reservation for order in (unpaid_order(product), paid_order(product))]
        said = _said(_choose(desk, "release", *rows, confirmed="yes"))
        assert {level for level, _text in said} == {"warning"}
        assert stock_of(product) == (1, 1)

    def test_many_ask_first(self, desk: Client, product: Product) -> None:
        reservation = Reservation.objects.get(pk=hold(product).id)
        assert str(reservation.pk) in _choose(desk, "release", reservation).content.decode()
        assert stock_of(product) == (1, 0)


@pytest.mark.row("H15")
def test_stop_and_resume_selling_leave_the_capacity_alone(desk: Client, product: Product) -> None:
    _press(desk, "stop_this", product)
    product.refresh_from_db()
    assert (product.is_stopped, product.quotas.get().capacity) == (True, 10)
    _press(desk, "resume_this", product)
    product.refresh_from_db()
    assert product.is_stopped is False
    _choose(desk, "stop_selling", product)
    product.refresh_from_db()
    assert product.is_stopped is True
    _choose(desk, "resume_selling", product)
    product.refresh_from_db()
    assert product.is_stopped is False


def test_buttons_are_offered_where_they_make_sense(desk: Client, product: Product) -> None:
    paid, unpaid = paid_order(product), unpaid_order(product)
    pages = [
        desk.get(reverse("admin:reservations_order_change", args=[row.pk])).content.decode() for row in (paid, unpaid)
    ]
    assert ["Ensure tickets" in page for page in pages] == [True, False]
    assert ["Close unpaid order" in page for page in pages] == [False, True]


def test_looking_is_not_doing(client: Client, product: Product) -> None:
    """Staff who may see orders may not close them."""
    clerk = UserFactory(is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_order", "view_reservation"]))
    client.force_login(clerk)
    order = unpaid_order(product)
    page = reverse("admin:reservations_order_change", args=[order.pk])
    assert client.get(page).status_code == 200
    assert "Close unpaid order" not in client.get(page).content.decode()
    assert client.post(reverse("admin:reservations_order_close_this", args=[order.pk])).status_code == 403
    _choose(client, "close", order, confirmed="yes")
    order.refresh_from_db()
    assert order.status == Order.Status.AWAITING_PAYMENT
