"""What staff see and do about payments, refunds, webhook events and orders in trouble (P8, P10, P16, T1)."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models import Model
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from config.database import database_now
from payments import attention, backfill, breaker, expiry, refunds, repeats, settlement, truth
from payments.models import Payment, Refund, WebhookEvent
from payments.stripe_gateway import RefundFacts
from reservations import demand
from reservations.models import Order, StatusChange, Tally
from tests.admin.catalogue import paid_order, unpaid_order, webhook_event
from tests.browsing import open_context, open_page
from tests.factories import EventFactory, ProductFactory, UserFactory
from tests.payments.posting import made_up, post
from tests.purchases import ask, end_time, hold, line, ordered, stock_of
from ticketing import demo_catalogue
from ticketing.models import Event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("T1")]
TRIES = 3  # of one call to Stripe


@pytest.fixture(autouse=True)
def nothing_counted_yet() -> Iterator[None]:
    demand._tally.begin()
    yield
    demand._tally.begin()


def said(answer: Any) -> list[tuple[str, str]]:
    return [(message.level_tag, str(message)) for message in get_messages(answer.wsgi_request)._queued_messages]


def page_of(row: Model, page: str = "change") -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}", args=[row.pk])


def list_of(model: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def choose(desk: Client, action: str, *rows: Model, **more: Any) -> Any:
    return desk.post(list_of(rows[0]), {"action": action, "_selected_action": [str(row.pk) for row in rows], **more})


def press(desk: Client, action: str, row: Model, **form: str) -> Any:
    """A button on the row's page: its question first, which changes nothing, then yes."""
    address = page_of(row, action)
    assert desk.get(address).status_code == 200
    return desk.post(address, {"_form_submitted": "True", **form})


def words(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def found(desk: Client, model: Any, **query: str) -> list[Any]:
    return list(desk.get(list_of(model), query).context["cl"].result_list)


def buttons(desk: Client, row: Model) -> set[str]:
    return {one["title"] for one in desk.get(page_of(row)).context["actions_detail"]}


def clerk(*codenames: str) -> Client:
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def stuck(client: Client, **product: Any) -> tuple[Order, Payment]:
    order, payment = ordered(client, ProductFactory(**product))
    end_time(order.reservation_id, seconds=700)
    return order, payment


def late_refund(client: Client, sandbox: Any) -> Refund:
    """Owed to a buyer who paid when the last place was somebody else's; nothing has been sent to Stripe yet."""
    order, payment = stuck(client, quotas__capacity=1)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    hold(order.lines.get().product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")
    return Refund.objects.select_related("payment__order").get(payment=payment)


def fail(refund: Refund, sandbox: Any) -> None:
    """Stripe takes it, and the buyer's bank sends the money back."""
    Refund.objects.filter(pk=refund.pk).update(next_attempt_at=Now())
    refunds.submit(refund.pk)
    refund.refresh_from_db()
    sandbox.control.fail_refund(refund.stripe_refund_id)
    told = RefundFacts(
        id=refund.stripe_refund_id or "",
        status="FAILED",
        stripe_status="failed",
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        intent_id=refund.payment.stripe_payment_intent_id,
        metadata={},
        error="expired_or_canceled_card",
    )
    refunds.follow(refund.pk, facts=told, by="webhook")


def failed_for_good(client: Client, sandbox: Any) -> Refund:
    late_refund(client, sandbox)
    for attempt in range(1, refunds.TRIES + 1):
        fail(Refund.objects.select_related("payment__order").get(attempt=attempt), sandbox)
    return Refund.objects.get(attempt=refunds.TRIES)


@pytest.mark.row("P10")
class TestRefunds:
    def test_one_is_submitted_by_hand_and_only_once(self, desk, client, sandbox, superuser):
        refund = late_refund(client, sandbox)
        assert buttons(desk, refund) == {"Submit now"}
        assert said(press(desk, "submit_this_now", refund)) == [("success", f"{refund}: attempt 1 is succeeded")]
        assert [one["status"] for one in sandbox.control.refunds()] == ["succeeded"]
        text = words(desk.get(page_of(refund)))
        assert f"staff:{superuser.pk}" in text
        assert refund.payment.order.code in text
        assert buttons(desk, refund) == set()
        assert said(press(desk, "submit_this_now", refund)) == [("warning", f"{refund}: It is succeeded already.")]
        assert len(sandbox.control.refunds()) == 1

    def test_many_are_asked_about_first(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        assert "Send these refunds to Stripe now?" in words(choose(desk, "submit_now", refund))
        assert sandbox.control.refunds() == []
        assert said(choose(desk, "submit_now", refund, confirmed="yes"))[0][0] == "success"
        assert len(sandbox.control.refunds()) == 1

    def test_stripe_away_is_a_warning_and_the_refund_waits(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        sandbox.control.add_fault("http_500_before", method="POST", path="/v1/refunds", count=TRIES)
        [(level, text)] = said(press(desk, "submit_this_now", refund))
        assert (level, "Stripe has not taken it" in text) == ("warning", True)
        sandbox.control.clear_faults()
        assert said(press(desk, "submit_this_now", refund))[0][0] == "success"
        assert len(sandbox.control.refunds()) == 1

    def test_while_payments_are_paused_nothing_is_sent(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        breaker.open(by="staff:1", why="a test")
        [(level, text)] = said(press(desk, "submit_this_now", refund))
        assert (level, "calls to Stripe are paused" in text) == ("warning", True)
        assert sandbox.control.refunds() == []

    @pytest.mark.row("HC-D10")
    def test_hc_d10_one_that_failed_for_good_is_asked_for_anew(self, desk, client, sandbox):
        last = failed_for_good(client, sandbox)
        assert found(desk, Refund, open="owed") == [last]
        assert (found(desk, Refund, open="not_done"), attention.waiting().refunds) == ([], 1)
        assert buttons(desk, last) == {"Try again"}
        assert said(press(desk, "try_this_again", last)) == [("success", f"{last}: attempt 4 is succeeded")]
        assert (found(desk, Refund, open="owed"), attention.waiting().refunds) == ([], 0)
        last.payment.refresh_from_db()
        assert last.payment.refunded_minor == last.payment.amount_received_minor
        first = Refund.objects.get(attempt=1)
        for answer in (press(desk, "try_this_again", first), choose(desk, "try_again", first, confirmed="yes")):
            assert said(answer)[-1] == ("warning", f"{first}: It did not fail, or its money has gone back since.")
        assert Refund.objects.count() == 4

    def test_trying_many_again_asks_first(self, desk, client, sandbox):
        last = failed_for_good(client, sandbox)
        assert "Ask for these refunds anew?" in words(choose(desk, "try_again", last))
        assert Refund.objects.count() == 3
        assert said(choose(desk, "try_again", last, confirmed="yes"))[0][0] == "success"

    def test_they_are_found_by_what_people_paste(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        ordered(client, ProductFactory(), email="other@example.org")
        refunds.submit_due()
        refund.refresh_from_db()
        order, payment = refund.payment.order, refund.payment
        for term in (order.code.lower(), "Ada@example.org", refund.stripe_refund_id, payment.stripe_payment_intent_id):
            assert found(desk, Refund, q=term) == [refund], term
        for term in ("re_nobody", "pi_nobody", "other@example.org", "%"):
            assert found(desk, Refund, q=term) == [], term
        assert found(desk, Refund, status__exact="SUCCEEDED", reason__exact="LATE") == [refund]
        assert found(desk, Refund, reason__exact="STAFF") == []

    def test_order_and_payment_show_them(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        for row in (refund.payment, refund.payment.order):
            page = desk.get(page_of(row))
            assert page_of(refund) in page.content.decode()
            assert "paid too late, no room left" in words(page)
            assert "requested" in words(page)
        assert "All of the order's money goes or went back." in words(page).replace("&#x27;", "'")

    def test_looking_is_not_doing(self, client, sandbox):
        refund = late_refund(client, sandbox)
        looker = clerk("view_refund")
        assert looker.get(page_of(refund)).status_code == 200
        assert buttons(looker, refund) == set()
        for action in ("submit_this_now", "try_this_again"):
            assert looker.post(page_of(refund, action), {"_form_submitted": "True"}).status_code == 403
        for action in ("submit_now", "try_again"):
            choose(looker, action, refund, confirmed="yes")
        assert sandbox.control.refunds() == []
        assert clerk("view_order").get(page_of(refund)).status_code == 403

    def test_nothing_of_one_can_be_typed(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        before = Refund.objects.values().get()
        assert desk.post(page_of(refund), {"status": "SUCCEEDED", "amount_minor": 1}).status_code == 403
        assert desk.post(page_of(refund, "delete"), {"post": "yes"}).status_code == 403
        assert desk.get(reverse("admin:payments_refund_add")).status_code == 403
        assert Refund.objects.values().get() == before


def queries(desk: Client, address: str) -> int:
    desk.get(address)
    with CaptureQueriesContext(connection) as captured:
        assert desk.get(address).status_code == 200
    return len(captured)


@pytest.mark.row("M7")
def test_pages_cost_the_same_with_more_refunds_and_events(desk, client, sandbox):
    refund = late_refund(client, sandbox)
    payment, order = refund.payment, refund.payment.order
    addresses = [list_of(Refund), page_of(payment), page_of(order), list_of(WebhookEvent), list_of(Payment)]

    def tell(number: int) -> None:
        told = {"type": "refund.updated", "object_id": payment.stripe_payment_intent_id, "payload": {}}
        WebhookEvent.objects.create(stripe_id=f"evt_{number}", **told)

    tell(0)
    before = [queries(desk, address) for address in addresses]
    for number in range(1, 4):
        tell(number)
        late_refund(client, sandbox)
        fail(payment.refunds.select_related("payment__order").latest("attempt"), sandbox)
    Refund.objects.update(next_attempt_at=Now())
    assert [queries(desk, address) for address in addresses] == before


@pytest.mark.row("P8")
class TestWebhookLog:
    def test_each_row_tells_how_it_went(self, desk):
        event = webhook_event(1, status="PROCESSED", attempts=2, duplicates=3, processing_ms=41)
        WebhookEvent.objects.update(processed_at=Now(), received_at=Now() - timedelta(minutes=5))
        text = words(desk.get(list_of(WebhookEvent)))
        for shown in ("processed", "5 min", "41 ms", "webhook", "3"):
            assert shown in text
        assert "webhook" in words(desk.get(page_of(event)))

    def test_filters(self, desk):
        smooth = webhook_event(1, attempts=1)
        tried = webhook_event(2, attempts=3, type="refund.failed")
        again = webhook_event(3, duplicates=1, type="customer.created", source="BACKFILL")
        WebhookEvent.objects.filter(pk=smooth.pk).update(received_at=Now() - timedelta(days=2))
        assert found(desk, WebhookEvent, trouble="tries") == [tried]
        assert found(desk, WebhookEvent, trouble="again") == [again]
        assert found(desk, WebhookEvent, kind="refund.failed") == [tried]
        assert found(desk, WebhookEvent, kind="others") == [again]
        assert found(desk, WebhookEvent, within="day") == [again, tried]
        assert found(desk, WebhookEvent, within="week") == [again, tried, smooth]
        assert found(desk, WebhookEvent, source__exact="BACKFILL") == [again]

    def test_a_stack_trace_is_readable(self, desk):
        trace = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: <b>no</b>'
        event = webhook_event(1, status="DEAD", last_error=trace)
        page = desk.get(page_of(event)).content.decode()
        assert "line 1\nValueError: &lt;b&gt;no&lt;/b&gt;</pre>" in page
        assert "ValueError: &lt;b&gt;no" in desk.get(list_of(WebhookEvent)).content.decode()

    def test_it_leads_to_what_it_is_about(self, desk, client, sandbox):
        refund = late_refund(client, sandbox)
        refunds.submit_due()
        refund.refresh_from_db()
        payment = refund.payment
        of_refund = webhook_event(1, type="refund.updated", object_id=refund.stripe_refund_id)
        of_payment = webhook_event(2, object_id=payment.stripe_payment_intent_id)
        page = desk.get(page_of(of_refund)).content.decode()
        assert all(page_of(row) in page for row in (refund, payment, payment.order))
        page = desk.get(page_of(of_payment)).content.decode()
        assert all(page_of(row) in page for row in (payment, payment.order))
        assert "nothing of ours" in words(desk.get(page_of(webhook_event(3, object_id="pi_nobody"))))
        assert page_of(of_payment) in desk.get(page_of(payment)).content.decode()
        assert page_of(of_refund) in desk.get(page_of(refund)).content.decode()

    def test_too_many_at_once_are_not_begun(self, desk):
        events = [WebhookEvent(stripe_id=f"evt_{n}", type="x", payload={}, status="DEAD") for n in range(501)]
        rows = WebhookEvent.objects.bulk_create(events)
        [(level, text)] = said(choose(desk, "requeue", *rows))
        assert (level, "at most 500" in text) == ("warning", True)
        assert not WebhookEvent.objects.filter(status="RECEIVED").exists()

    def test_many_refusals_are_told_together(self, desk):
        done = [webhook_event(number, status="PROCESSED") for number in range(8)]
        dead = webhook_event(9, status="DEAD")
        assert said(choose(desk, "requeue", dead, *done)) == [
            ("success", f"{dead}: requeued"),
            ("warning", "Not done: 8. Each: It is processed: that cannot be done now."),
        ]

    def test_one_is_processed_here_and_now(self, desk, client, sandbox):
        order, payment = ordered(client, ProductFactory())
        sandbox.control.pay(payment.stripe_payment_intent_id)
        event = webhook_event(1, object_id=payment.stripe_payment_intent_id)
        assert buttons(desk, event) == {"Process now"}
        assert said(press(desk, "process_now", event)) == [("success", f"{event}: is processed")]
        order.refresh_from_db()
        assert order.status == "PAID"
        assert said(press(desk, "process_now", event)) == [("warning", f"{event}: It is processed already.")]

    def test_what_cannot_be_processed_says_why(self, desk, sandbox):
        event = webhook_event(1, object_id="pi_nobody")
        [(level, text)] = said(press(desk, "process_now", event))
        assert (level, "Stripe does not know pi_nobody" in text) == ("warning", True)

    def fetch(self, desk: Client, since: str = "24") -> list[tuple[str, str]]:
        address = reverse("admin:payments_webhookevent_fetch_missed")
        assert "Fetch missed events" in words(desk.get(address))
        answer = desk.post(address, {"_form_submitted": "True", "since": since})
        assert answer.headers["HX-Redirect"] == list_of(WebhookEvent)
        return said(answer)

    def test_missed_events_are_fetched_once(self, desk, client, sandbox):
        _order, payment = ordered(client, ProductFactory())
        sandbox.control.pay(payment.stripe_payment_intent_id)
        [(level, text)] = self.fetch(desk)
        stored = WebhookEvent.objects.count()
        assert (level, text) == ("success", f"{stored} missed events stored; they are being processed.")
        assert set(WebhookEvent.objects.values_list("source", flat=True)) == {"BACKFILL"}
        assert self.fetch(desk)[-1] == ("success", "None was missing.")
        assert WebhookEvent.objects.count() == stored

    def test_the_ordinary_look_goes_on_from_the_last(self, desk, sandbox):
        assert self.fetch(desk, "") == [("success", "None was missing.")]
        assert "events" in words(desk.get(reverse("admin:payments_stripecursor_changelist")))

    def test_stripe_away_is_said_clearly(self, desk, sandbox):
        sandbox.control.add_fault("http_500_before", method="GET", path="/v1/events", count=TRIES)
        [(level, text)] = self.fetch(desk)
        assert (level, "Stripe could not be asked" in text) == ("error", True)

    def test_a_span_that_nobody_offered_is_refused(self, desk, sandbox):
        address = reverse("admin:payments_webhookevent_fetch_missed")
        answer = desk.post(address, {"_form_submitted": "True", "since": "9999"})
        assert "HX-Redirect" not in answer.headers
        assert sandbox.control.requests(path="/v1/events") == []

    def test_looking_is_not_doing(self, sandbox):
        looker = clerk("view_webhookevent")
        address = reverse("admin:payments_webhookevent_fetch_missed")
        assert "Fetch missed" not in words(looker.get(list_of(WebhookEvent)))
        assert looker.post(address, {"_form_submitted": "True", "since": "24"}).status_code == 403
        event = webhook_event(1)
        assert looker.post(page_of(event, "process_now"), {"_form_submitted": "True"}).status_code == 403
        assert sandbox.control.requests(path="/v1/events") == []


class TestPayments:
    @pytest.mark.parametrize(("is_live", "mode"), [(True, ""), (False, "test/")])
    def test_its_ids_lead_to_stripes_dashboard_where_there_is_one(self, desk, client, sandbox, settings, is_live, mode):
        _order, payment = ordered(client, ProductFactory())
        Payment.objects.update(is_livemode=is_live, replays=7, last_error="declined")
        page = desk.get(page_of(payment))
        assert "dashboard.stripe.com" not in page.content.decode()
        assert all(shown in words(page) for shown in (payment.stripe_payment_intent_id, "declined", "7"))
        settings.STRIPE_API_BASE = "https://api.stripe.com"
        address = f'href="https://dashboard.stripe.com/{mode}payments/{payment.stripe_payment_intent_id}"'
        assert address in desk.get(page_of(payment)).content.decode()

    def test_stripe_is_asked_about_one_that_is_decided_here(self, desk, client, sandbox):
        """Staff closed our books on it; the money came all the same."""
        order, payment = ordered(client, ProductFactory())
        sandbox.control.pay(payment.stripe_payment_intent_id)
        Payment.objects.update(status="CANCELLED")
        answer = press(desk, "ask_stripe_now", payment)
        assert said(answer) == [("success", f"{payment}: Stripe says succeeded; here it is succeeded")]
        order.refresh_from_db()
        assert order.status == "PAID"

    def test_many_are_asked_after(self, desk, client, sandbox):
        _order, payment = ordered(client, ProductFactory())
        assert said(choose(desk, "ask_stripe", payment)) == [
            ("success", f"{payment}: Stripe says requires_payment_method; here it is open")
        ]

    def test_one_that_stripe_never_had(self, desk, client, sandbox):
        _order, payment = ordered(client, ProductFactory())
        Payment.objects.update(status="NEW", stripe_payment_intent_id=None)
        sandbox.control.reset()
        assert said(press(desk, "ask_stripe_now", payment)) == [("warning", f"{payment}: Stripe has nothing for it.")]

    def test_stripe_away_and_the_other_mode_are_warnings(self, desk, client, sandbox, settings):
        _order, payment = ordered(client, ProductFactory())
        sandbox.control.add_fault("http_500_before", method="GET", path="/v1/payment_intents/*", count=TRIES)
        [(level, text)] = said(press(desk, "ask_stripe_now", payment))
        assert (level, "could not be asked" in text) == ("warning", True)
        sandbox.control.clear_faults()
        sandbox.control.modify(payment.stripe_payment_intent_id, livemode=True)
        [(level, text)] = said(press(desk, "ask_stripe_now", payment))
        assert (level, "other mode" in text) == ("warning", True)

    def test_looking_is_not_doing(self, client, sandbox):
        _order, payment = ordered(client, ProductFactory())
        looker = clerk("view_payment")
        sandbox.control.clear_requests()
        assert buttons(looker, payment) == set()
        assert looker.post(page_of(payment, "ask_stripe_now"), {"_form_submitted": "True"}).status_code == 403
        assert sandbox.control.requests() == []


@pytest.mark.row("P10", "HC-D5")
class TestStuckOrders:
    def test_they_are_listed_and_counted(self, desk, client, sandbox):
        order, _payment = stuck(client)
        ordered(client, ProductFactory())
        assert (found(desk, Order, stuck="yes"), attention.waiting().stuck) == ([order], 1)

    def test_seats_are_released_by_force_with_a_reason(self, desk, client, sandbox, superuser):
        order, payment = stuck(client)
        product = order.lines.get().product
        assert "Release seats by force" in buttons(desk, order)
        answer = press(desk, "force_release", order, why="Stripe is down, the hall is full")
        assert said(answer) == [("success", f"{order}: released by force, its stock is free again")]
        order.refresh_from_db()
        payment.refresh_from_db()
        assert (order.status, payment.status, stock_of(product)) == ("CANCELLED", "OPEN", (0, 0))
        line_of_history = StatusChange.objects.get(kind="order", to_status="CANCELLED")
        assert (line_of_history.by, line_of_history.why) == (
            f"staff:{superuser.pk}",
            "Stripe is down, the hall is full",
        )
        assert "the hall is full" in words(desk.get(page_of(order)))
        assert "Release seats by force" not in buttons(desk, order)

    @pytest.mark.parametrize("why", ["", "   ", "x" * 251])
    def test_without_a_good_reason_nothing_happens(self, desk, client, sandbox, why):
        order, _payment = stuck(client)
        answer = press(desk, "force_release", order, why=why)
        assert "HX-Redirect" not in answer.headers
        order.refresh_from_db()
        assert order.status == "AWAITING_PAYMENT"

    def test_only_what_is_stuck_can_be_released(self, desk, client, sandbox):
        order, _payment = ordered(client, ProductFactory())
        assert "Release seats by force" not in buttons(desk, order)
        [(level, text)] = said(press(desk, "force_release", order, why="impatience"))
        assert (level, "It is not stuck" in text) == ("warning", True)
        end_time(order.reservation_id, seconds=700)
        Payment.objects.update(status="PROCESSING")
        assert said(press(desk, "force_release", order, why="impatience"))[-1][0] == "warning"
        order.refresh_from_db()
        assert order.status == "AWAITING_PAYMENT"

    def test_who_may_only_look_may_not(self, client, sandbox):
        order, _payment = stuck(client)
        looker = clerk("view_order")
        assert "Release seats by force" not in buttons(looker, order)
        form = {"_form_submitted": "True", "why": "mischief"}
        assert looker.post(page_of(order, "force_release"), form).status_code == 403
        order.refresh_from_db()
        assert order.status == "AWAITING_PAYMENT"

    def test_why_a_person_must_look_stands_in_the_list(self, desk, client, sandbox):
        order, _payment = ordered(client, ProductFactory())
        Order.objects.update(needs_review="paid 1 EUR instead of 2500 EUR")
        assert "paid 1 EUR instead of 2500 EUR" in words(desk.get(list_of(Order), {"review": "yes"}))
        assert (found(desk, Order, review="yes"), attention.waiting().review) == ([order], 1)


def test_an_event_may_send_its_buyers_to_stripes_page(desk):
    event = EventFactory()
    page = desk.get(page_of(event))
    assert "Stripe's page also asks for the billing address" in page.content.decode().replace("&#x27;", "'")
    form = page.context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in values.items() if value is not None}
    for name in ("starts_at", "ends_at"):
        moment = sent.pop(name)
        sent |= {f"{name}_0": f"{moment:%Y-%m-%d}", f"{name}_1": f"{moment:%H:%M:%S}"}
    for formset in page.context["inline_admin_formsets"]:
        prefix = formset.formset.prefix
        sent |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    for mode in ("HOSTED", "ELEMENTS", "HOSTED"):
        assert desk.post(page_of(event), {**sent, "payment_mode": mode}).status_code == 302
        assert Event.objects.get(pk=event.pk).payment_mode == mode
    assert desk.post(page_of(event), {**sent, "payment_mode": "CASH"}).status_code == 200
    del sent["payment_mode"]
    assert desk.post(page_of(event), sent).status_code == 302
    assert Event.objects.get(pk=event.pk).payment_mode == "HOSTED", "who does not say leaves it as it is"


@pytest.mark.row("P2")
def test_the_demonstration_has_an_event_of_each_mode(db):
    events = demo_catalogue.fill(now=database_now())
    assert {event.payment_mode for event in events} == {"ELEMENTS", "HOSTED"}


@pytest.mark.row("P16")
class TestRepeats:
    def test_repeated_and_refused_keys_of_holds_are_counted(self, client):
        product = ProductFactory()
        key, slug = "a-key-of-16-chars", product.event.slug
        statuses = [ask(client, slug, [line(product)], key=key).status_code for _ in range(3)]
        statuses.append(ask(client, slug, [line(product, 2)], key=key).status_code)
        ask(client, slug, [line(product)])
        assert statuses == [201, 200, 200, 422]
        demand.flush()
        assert dict(Tally.objects.values_list("name", "count")) == {"hold_replayed": 2, "hold_key_reused": 1}

    def test_counting_a_repeated_hold_costs_no_query(self, client):
        product = ProductFactory()
        asked = (client, product.event.slug, [line(product)])
        ask(*asked, key="a-key-of-16-chars")
        with CaptureQueriesContext(connection) as captured:
            ask(*asked, key="a-key-of-16-chars")
        assert not [query for query in captured if "tally" in query["sql"]]

    def test_the_page_shows_them_all(self, desk, client, sandbox):
        _order, payment = ordered(client, ProductFactory())
        Payment.objects.filter(pk=payment.pk).update(replays=4)
        webhook_event(1, duplicates=5)
        post(client, made_up(), secret="whsec_of_somebody_else")
        for _ in range(6):
            demand.tally("hold_replayed")
        demand.flush()
        answer = desk.get(list_of(Tally))
        totals = dict(answer.context["totals"])
        assert totals["checkouts repeated"] == 4
        assert totals["webhook events that came again"] == 5
        assert totals["webhooks refused: wrong signature"] == 1
        assert totals["holds asked for again under their Idempotency-Key"] == 6
        drawn = answer.context["chart"]
        assert sum(column.values[0] for column in drawn.columns) == 6
        assert found(desk, Tally, name="hold_replayed") == [Tally.objects.get(name="hold_replayed")]
        tally = Tally.objects.get(name="hold_replayed")
        assert "holds asked for again" in words(desk.get(page_of(tally)))
        assert desk.post(page_of(tally), {"count": 1}).status_code == 403

    def test_what_is_older_than_a_day_is_not_added_up(self, db):
        demand.tally("hold_replayed")
        demand.flush()
        Tally.objects.update(minute=Now() - timedelta(hours=25))
        assert repeats.in_a_day()["hold_replayed"] == 0

    def test_who_may_not_see_them_does_not(self, db):
        assert clerk("view_order").get(list_of(Tally)).status_code == 403


class TestAttention:
    def test_an_office_in_order_has_nothing_waiting(self, db):
        assert attention.waiting().total == 0
        assert list(attention.hints()) == []
        assert attention.webhooks() == (True, "nothing missing")

    @pytest.mark.row("P8")
    def test_events_that_were_given_up_wait_for_a_person(self, db):
        for number, status in enumerate(["DEAD", "DEAD", "PARKED", "PROCESSED", "RECEIVED"]):
            webhook_event(number, status=status)
        counts = attention.waiting()
        assert (counts.dead, counts.parked, counts.total) == (2, 1, 3)

    @pytest.mark.row("HC-C13")
    def test_webhooks_refused_for_their_time_say_that_a_clock_is_wrong(self, client, sandbox):
        for number in range(attention.BURST):
            assert attention.webhooks()[0], number
            post(client, made_up(id=f"evt_{number}"), sent_at=1_600_000_000)
            demand.flush()
        is_ok, why = attention.webhooks()
        assert (is_ok, "clock" in why) == (False, True)
        assert ["clock" in text for text in attention.hints()] == [True]
        Tally.objects.update(minute=Now() - timedelta(hours=1))
        assert attention.webhooks()[0]

    @pytest.mark.row("HC-C1")
    def test_payments_without_webhooks_say_that_stripe_does_not_reach_us(self, client, sandbox):
        order, payment = ordered(client, ProductFactory())
        sandbox.control.pay(payment.stripe_payment_intent_id)
        settlement.sync(order.pk, by="sync")
        Payment.objects.update(succeeded_at=Now() - timedelta(minutes=5))
        assert backfill.is_silent()
        assert attention.webhooks()[1].startswith("silent")
        assert ["do not arrive" in text for text in attention.hints()] == [True]
        webhook_event(1, object_id=payment.stripe_payment_intent_id)
        assert attention.webhooks()[0]


def _furnish() -> tuple[Order, Refund]:
    """An order that cannot be closed, a refund that failed for good, events in every state, an hour of repeats."""
    paid, order = paid_order(ProductFactory()), unpaid_order(ProductFactory())
    end_time(order.reservation_id, seconds=700)
    order.payments.update(next_attempt_at=Now() + timedelta(hours=1))  # the office's sweeps leave it alone
    Order.objects.filter(pk=order.pk).update(needs_review="paid 1 EUR instead of 2500 EUR (minor units)")
    payment = paid.payments.get()
    values = {"payment": payment, "amount_minor": payment.amount_minor, "currency": "EUR", "by": "webhook"}
    failed = {"status": "FAILED", "last_error": "expired_or_canceled_card", "stripe_refund_id": f"re_{payment.pk}"}
    first = Refund.objects.create(
        **values, **failed, idempotency_key=f"refund:1:{payment.pk}", reason="LATE", attempts=2
    )
    Refund.objects.create(**values, idempotency_key=f"refund:2:{payment.pk}", reason="STAFF", attempt=2)
    trace = "Traceback (most recent call last):\n" + '  File "payments/webhooks.py", line 41, in process\n' * 6
    for number, status in enumerate(["DEAD", "PARKED", "PROCESSED"]):
        event = webhook_event(1000 * payment.pk + number, status=status, attempts=9 - number, duplicates=number)
        WebhookEvent.objects.filter(pk=event.pk).update(last_error=trace + "ValueError: no", processing_ms=41)
    for minutes, name in enumerate(repeats.TALLIES):
        demand.tally(name)
        demand.flush()
        moved = Tally.objects.filter(name=name, minute__gt=Now() - timedelta(minutes=2))
        moved.update(
            minute=database_now() - timedelta(minutes=9 * minutes + 4, microseconds=payment.pk), count=3 + minutes
        )
    return order, first


@pytest.mark.browser
@pytest.mark.office
@pytest.mark.parametrize("look", ["phone-dark", "desktop-light"])
def test_a_clerk_works_through_them_in_a_browser(look: str, browser, office, shots) -> None:
    size, _dash, scheme = look.partition("-")
    user = UserFactory(staff=True)
    user.set_password("a long enough one")
    user.save()
    order, refund = _furnish()
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme=scheme)
    page = open_page(context, complaints)
    page.goto("/admin/login/")
    page.locator("[name=username]").fill(user.email)
    page.locator("[name=password]").fill("a long enough one")
    page.locator("[type=submit]").click()
    page.wait_for_url("**/admin/")

    def look_at(name: str, address: str) -> None:
        page.goto(address)
        page.screenshot(path=shots / f"payment-pages-{look}-{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} scrolls sideways"

    def press_button(name: str) -> None:
        if size == "phone":
            page.get_by_text("more_horiz").first.click()
        page.get_by_role("link", name=name).first.click()

    dead = WebhookEvent.objects.filter(status="DEAD").latest("pk")
    look_at("refunds", list_of(Refund))
    look_at("refund", page_of(refund))
    look_at("payment", page_of(refund.payment))
    look_at("events", list_of(WebhookEvent))
    look_at("event", page_of(dead))
    look_at("orders", f"{list_of(Order)}?review=yes")
    look_at("tallies", list_of(Tally))
    rules = {"region": {"enabled": False}}  # the theme's own heading stands outside every landmark
    found = Axe().run(
        page, context=".rd", options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"], "rules": rules}
    )
    assert found.violations_count == 0, found.generate_report()

    page.goto(list_of(WebhookEvent))
    press_button("Fetch missed events from Stripe")
    page.get_by_label("From when on").wait_for()
    page.screenshot(path=shots / f"payment-pages-{look}-fetch.png")
    page.get_by_role("button", name="Fetch", exact=True).click()
    page.get_by_text(re.compile("missed events stored|None was missing")).wait_for()

    look_at("order", page_of(order))
    press_button("Release seats by force")
    reason = page.get_by_label("Why, for your colleagues")
    reason.wait_for()
    page.screenshot(path=shots / f"payment-pages-{look}-force.png")
    page.get_by_role("button", name="Release the seats").click()
    page.get_by_text("This field is required").wait_for()
    page.get_by_label("Why, for your colleagues").fill("the hall is full")
    page.get_by_role("button", name="Release the seats").click()
    page.get_by_text("released by force, its stock is free again").wait_for()
    page.screenshot(path=shots / f"payment-pages-{look}-released.png", full_page=True)
    assert page.get_by_text("the hall is full").first.is_visible()
    order.refresh_from_db()
    assert order.status == "CANCELLED"
    context.close()
    assert complaints == []
