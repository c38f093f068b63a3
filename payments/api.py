"""The JSON contract of checkout and orders. Anonymous: the reservation's id and the order's secret are the authority."""

import uuid
from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from config import features, rate_limits
from config.dates import rfc3339
from config.problems import Problem
from payments import checkout, expiry, order_status, settlement, stripe_gateway
from payments.serializers import (
    CheckoutRequestSerializer,
    CheckoutSerializer,
    OrderSerializer,
    OrderStatusSerializer,
    checkout_json,
    order_json,
    placed_json,
)
from reservations import demand, holds
from reservations.api import IDEMPOTENCY_KEY, AnonymousView, idempotency_key
from reservations.holds import PromoCodeUsedUp
from reservations.models import Order, Reservation
from reservations.placement import NoSuchReservation
from reservations.serializers import ProblemSerializer

SECRET = OpenApiParameter("secret", str, required=True, description="The order's secret")


def _count(action: str, request: Request) -> None:
    """Raises RateLimited, which is answered by config.problems."""
    try:
        rate_limits.take(action, meta=request.META)
    except rate_limits.RateLimited as refusal:
        demand.limit_hit(refusal.limit, refusal.who)
        raise


class CheckoutView(AnonymousView):
    @extend_schema(
        request=CheckoutRequestSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={
            201: CheckoutSerializer,
            200: CheckoutSerializer,
            400: ProblemSerializer,
            409: ProblemSerializer,
            429: ProblemSerializer,
            503: ProblemSerializer,
        },
        operation_id="checkout",
    )
    def post(self, request: Request, reservation_id: uuid.UUID) -> Response:
        """Turns a hold into an order and makes it payable; repeating it makes only what is missing."""
        _count("checkout", request)
        asked = CheckoutRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        idempotency_key(request)  # the reservation's id makes the call idempotent; the key only has to be well formed
        email, name = asked.validated_data["email"], asked.validated_data["name"]
        absolute = request.build_absolute_uri
        try:
            done = checkout.start(reservation_id, email=email, name=name, mode=_mode(asked.validated_data))
        except NoSuchReservation:
            raise Http404 from None
        except checkout.CheckoutEnded:
            raise Problem(409, "ended", _("The time to pay is over.")) from None
        except checkout.ModeFixed:
            message = _("This payment was begun in the other way and cannot be changed now.")
            raise Problem(409, "mode_fixed", message) from None
        except PromoCodeUsedUp:
            message = _("With this e-mail address the promo code has been used as often as it may be.")
            raise Problem(409, "limit_exceeded", message) from None
        except checkout.PaymentUnavailable as failure:
            message = _("Payment is paused for a moment; your tickets are kept. Please try again.")
            order = placed_json(failure.order, absolute=absolute)
            kept = _kept_until(reservation_id)
            raise Problem(503, "payment_unavailable", message, retryable=True, order=order, **kept) from None
        except checkout.PaymentRefused as refusal:
            message = _("This cannot be paid as it is; we have been told. Your reference is %(code)s.")
            raise Problem(409, "payment_refused", message % {"code": refusal.order.code}) from None
        headers = {"Idempotent-Replayed": "true"} if done.is_replayed else {}
        status = 200 if done.is_replayed else 201
        return Response(checkout_json(done, absolute=absolute), status=status, headers=headers)


def _kept_until(reservation_id: uuid.UUID) -> dict[str, Any]:
    """Until when the tickets are kept now that payment is paused, and the server's time beside it."""
    held = holds.look_up(reservation_id)
    return {"expires_at": rfc3339(held.expires_at), "server_time": rfc3339(held.server_time)} if held else {}


def _mode(asked: dict[str, Any]) -> str | None:
    return asked["mode"].upper() if "mode" in asked else None


class OrderView(AnonymousView):
    """Base of everything that an order's secret opens: an unknown code and a wrong secret give the same 404."""

    order: Order

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        try:
            self.order = order_status.find(kwargs["code"], secret=request.query_params.get("secret", ""))
        except order_status.NoSuchOrder:
            raise Http404 from None

    def status(self) -> dict[str, Any]:
        self.order.refresh_from_db()
        return order_status.status_of(self.order).as_json()


class OrderDetail(OrderView):
    @extend_schema(parameters=[SECRET], responses={200: OrderSerializer, 404: ProblemSerializer}, operation_id="order")
    def get(self, request: Request, code: str) -> Response:
        """The order with its lines and tickets."""
        return Response(order_json(self.order, absolute=request.build_absolute_uri))


class OrderStatus(OrderView):
    @extend_schema(
        parameters=[SECRET], responses={200: OrderStatusSerializer, 404: ProblemSerializer}, operation_id="order_status"
    )
    def get(self, request: Request, code: str) -> Response:
        """How far the order is; made to be polled, reads our own books only."""
        return Response(order_status.status_of(self.order).as_json())


class OrderSync(OrderView):
    @extend_schema(
        request=None,
        parameters=[SECRET],
        responses={200: OrderStatusSerializer, 429: ProblemSerializer, 503: ProblemSerializer},
        operation_id="order_sync",
    )
    def post(self, request: Request, code: str) -> Response:
        """Asks Stripe and settles what it says; at most every two seconds, in between it answers like the status."""
        _count("sync", request)
        if not features.is_on("self-service-sync", subject=self.order.code):
            return Response(self.status())
        try:
            settlement.sync(self.order.pk, by="sync")
        except (*stripe_gateway.NO_WORD, settlement.WrongMode):
            message = _("The payment service does not answer. Your order is safe; please try again in a minute.")
            raise Problem(503, "payment_unavailable", message, retryable=True) from None
        return Response(self.status())


class OrderCancel(OrderView):
    @extend_schema(
        request=None,
        parameters=[SECRET],
        responses={
            200: OrderStatusSerializer,
            409: ProblemSerializer,
            429: ProblemSerializer,
            503: ProblemSerializer,
        },
        operation_id="order_cancel",
    )
    def post(self, request: Request, code: str) -> Response:
        """Closes the payment at Stripe, then gives the stock back."""
        _count("sync", request)
        try:
            expiry.close(self.order.pk, to=Reservation.Status.RELEASED, by="buyer", why="cancelled by the buyer")
        except expiry.AlreadyPaid:
            raise Problem(409, "paid", _("This order is paid and cannot be cancelled here.")) from None
        except expiry.BankDecides:
            message = _("Your bank is still deciding about this payment, so we cannot cancel it now.")
            raise Problem(503, "payment_unavailable", message, retryable=True) from None
        except expiry.CannotTell:
            message = _("The payment service does not answer, so we cannot tell yet. Please try again in a minute.")
            raise Problem(503, "payment_unavailable", message, retryable=True) from None
        return Response(self.status())
