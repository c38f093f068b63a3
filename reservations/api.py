"""The JSON contract of catalogue and holds. Anonymous: ids in addresses are the authority, no cookie is read."""

import json
import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from config.problems import Problem
from reservations import availability, holds, taking
from reservations.models import Order
from reservations.serializers import (
    AvailabilitySerializer,
    EventDetailSerializer,
    EventSerializer,
    OfferSerializer,
    ProblemSerializer,
    ReservationRequestSerializer,
    ReservationSerializer,
    reservation_as_json,
)
from ticketing.models import Event

IDEMPOTENCY_KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="16 to 255 characters")


class AnonymousView(APIView):
    """For buyers: no authentication, so no CSRF token either."""

    authentication_classes: list[type] = []
    permission_classes = [AllowAny]


def idempotency_key(request: Request) -> str | None:
    """The client's own key, None without one; 400 when it is too short to be unique or too long to keep."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 16 <= len(key) <= 255:
        message = _("Idempotency-Key must have 16 to 255 characters.")
        raise Problem(400, "invalid", message, fields={"Idempotency-Key": [message]})
    return key


def published() -> QuerySet[Event]:
    """What buyers may see."""
    return Event.objects.filter(status=Event.Status.PUBLISHED).select_related("organiser")


class EventPages(CursorPagination):
    page_size = 50
    ordering = ("starts_at", "id")

    def paginate_queryset(self, *args: Any, **kwargs: Any) -> list[Any] | None:
        try:
            return super().paginate_queryset(*args, **kwargs)
        except ValidationError as error:  # a cursor that somebody made up
            raise NotFound(self.invalid_cursor_message) from error

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        following = {"type": "string", "format": "uri", "nullable": True}
        return {"type": "object", "properties": {"results": schema, "next": following}}


class EventList(generics.ListAPIView):
    """Events on sale or announced, soonest first."""

    authentication_classes: list[type] = []
    permission_classes = [AllowAny]
    serializer_class: type[BaseSerializer] = EventSerializer
    pagination_class = EventPages

    def get_queryset(self) -> QuerySet[Event]:
        return published().filter(ends_at__gt=Now())


class EventDetail(AnonymousView):
    @extend_schema(responses={200: EventDetailSerializer, 404: ProblemSerializer}, operation_id="event")
    def get(self, request: Request, slug: str) -> Response:
        """One event with its products, their slots and states."""
        event = get_object_or_404(published(), slug=slug)
        offers = availability.offers(event)
        return Response({**EventSerializer(event).data, "products": OfferSerializer(offers, many=True).data})


class EventAvailability(AnonymousView):
    @extend_schema(
        responses={200: AvailabilitySerializer, 304: None, 404: ProblemSerializer}, operation_id="availability"
    )
    def get(self, request: Request, slug: str) -> Response:
        """What is free, per product and slot; made to be polled and cached: ETag, max-age of one second."""
        now = availability.now(slug)
        if now is None:
            raise Http404
        headers = {"ETag": now.etag, "Cache-Control": "public, max-age=1"}
        if now.is_known_to(request.headers.get("If-None-Match", "")):
            return Response(status=304, headers=headers)
        return Response(json.loads(now.body), headers=headers)


class Reservations(AnonymousView):
    @extend_schema(
        request=ReservationRequestSerializer,
        parameters=[IDEMPOTENCY_KEY],
        responses={
            201: ReservationSerializer,
            200: ReservationSerializer,
            400: ProblemSerializer,
            409: ProblemSerializer,
            422: ProblemSerializer,
            429: ProblemSerializer,
        },
        operation_id="reserve",
    )
    def post(self, request: Request) -> Response:
        """Takes a hold on several lines at once, all or nothing."""
        asked = ReservationRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        hold, is_replayed = taking.take(
            asked.validated_data["event"],
            lines=asked.wanted(),
            key=idempotency_key(request),
            promo_code=asked.validated_data.get("promo_code") or "",
            meta=request.META,
        )
        headers = {"Idempotent-Replayed": "true"} if is_replayed else {}
        return Response(_described(request, hold), status=200 if is_replayed else 201, headers=headers)


class ReservationDetail(AnonymousView):
    @extend_schema(responses={200: ReservationSerializer, 404: ProblemSerializer}, operation_id="reservation")
    def get(self, request: Request, reservation_id: uuid.UUID) -> Response:
        """The hold as it stands."""
        hold = holds.look_up(reservation_id)
        if hold is None:
            raise Http404
        return Response(_described(request, hold))

    @extend_schema(responses={204: None, 409: ProblemSerializer}, operation_id="release")
    def delete(self, request: Request, reservation_id: uuid.UUID) -> Response:
        """Gives the hold back; the same answer when it had ended already."""
        try:
            is_known = holds.release(reservation_id)
        except holds.NotReleasable as refusal:
            if refusal.status == "CONFIRMED":
                raise Problem(409, "confirmed", _("This is paid; ask for a refund instead.")) from None
            order = Order.objects.get(reservation=reservation_id)
            cancel_url = request.build_absolute_uri(order.address_of("payments:api-cancel"))
            raise Problem(409, "ordered", _("This was ordered; cancel the order."), cancel_url=cancel_url) from None
        if not is_known:
            raise Http404
        return Response(status=204)


class ReservationExtension(AnonymousView):
    @extend_schema(request=None, responses={200: ReservationSerializer, 409: ProblemSerializer}, operation_id="extend")
    def post(self, request: Request, reservation_id: uuid.UUID) -> Response:
        """Adds the event's extension, once."""
        try:
            hold = holds.extend(reservation_id)
        except holds.NotExtendable as refusal:
            raise Problem(409, refusal.code, _NOT_EXTENDABLE[refusal.code]) from None
        if hold is None:
            raise Http404
        return Response(_described(request, hold))


_NOT_EXTENDABLE = {
    "already_extended": _lazy("The time was extended before; that works once."),
    "ended": _lazy("The time is over."),
    "not_extendable": _lazy("This event does not extend the time."),
}


def _described(request: Request, hold: holds.Hold) -> dict[str, Any]:
    return reservation_as_json(
        hold, checkout_url=request.build_absolute_uri(reverse("payments:checkout", args=[hold.id]))
    )
