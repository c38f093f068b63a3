"""Shapes of the JSON contract: what may come in, and how a hold goes out."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from config.dates import rfc3339
from reservations.holds import Hold, Wanted
from reservations.models import Reservation

RESERVATION_STATUSES = [status.lower() for status in Reservation.Status.values]


class MoneySerializer(serializers.Serializer):
    amount_minor = serializers.IntegerField()
    currency = serializers.CharField()


class WholeNumberField(serializers.IntegerField):
    """A JSON number without fraction; DRF's own field would also take "3", "1_0" and 2.0."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class WantedLineSerializer(serializers.Serializer):
    product = WholeNumberField(min_value=1, max_value=2**63 - 1)
    slot = WholeNumberField(min_value=1, max_value=2**63 - 1, required=False, allow_null=True, default=None)
    quantity = WholeNumberField(min_value=1, max_value=1_000)


class ReservationRequestSerializer(serializers.Serializer):
    event = serializers.CharField(max_length=80)
    # many=True makes a ListSerializer, whose max_length the stubs do not know of.
    lines = WantedLineSerializer(many=True, allow_empty=False, max_length=50)  # type: ignore[call-arg]
    promo_code = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=40)

    def wanted(self) -> list[Wanted]:
        """The validated lines in the words of `reservations.holds`."""
        return [Wanted(line["product"], line["slot"], line["quantity"]) for line in self.validated_data["lines"]]


class HeldLineSerializer(serializers.Serializer):
    product = serializers.IntegerField()
    slot = serializers.IntegerField(allow_null=True)
    quantity = serializers.IntegerField()
    unit_price = MoneySerializer()
    discount = MoneySerializer()
    total = MoneySerializer()


class ReservationSerializer(serializers.Serializer):
    """Documents the answer; `reservation_as_json` makes it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=RESERVATION_STATUSES)
    expires_at = serializers.DateTimeField()
    server_time = serializers.DateTimeField()
    can_extend = serializers.BooleanField()
    lines = HeldLineSerializer(many=True)
    promo_code = serializers.CharField(allow_null=True)
    total = MoneySerializer()
    checkout_url = serializers.URLField()


def reservation_as_json(hold: Hold, *, checkout_url: str) -> dict[str, Any]:
    """A hold in the shape of the contract."""
    return {
        "id": str(hold.id),
        "status": hold.status.lower(),
        "expires_at": rfc3339(hold.expires_at),
        "server_time": rfc3339(hold.server_time),
        "can_extend": hold.can_extend,
        "lines": [
            {
                "product": line.product_id,
                "slot": line.slot_id,
                "quantity": line.quantity,
                "unit_price": line.unit_price.as_json(),
                "discount": line.discount.as_json(),
                "total": line.total.as_json(),
            }
            for line in hold.lines
        ],
        "promo_code": hold.promo_code or None,
        "total": hold.total.as_json(),
        "checkout_url": checkout_url,
    }


class OrganiserSerializer(serializers.Serializer):
    slug = serializers.CharField()
    name = serializers.CharField()


class EventSerializer(serializers.Serializer):
    slug = serializers.CharField()
    name = serializers.CharField()
    currency = serializers.CharField()
    time_zone = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    organiser = OrganiserSerializer()


class SlotSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class ProblemSerializer(serializers.Serializer):
    """Every refusal; `code` is stable, further fields depend on it."""

    code = serializers.CharField()
    message = serializers.CharField()


class FreeSerializer(serializers.Serializer):
    id = serializers.IntegerField(help_text="The product")
    slot = serializers.IntegerField(allow_null=True)
    available = serializers.IntegerField()
    state = serializers.CharField(help_text="available, low, sold_out, not_on_sale or ended")


class AvailabilitySerializer(serializers.Serializer):
    as_of = serializers.DateTimeField()
    products = FreeSerializer(many=True)


class OfferSerializer(serializers.Serializer):
    """One product as it is offered (`reservations.availability.Offer`)."""

    id = serializers.IntegerField(source="product.pk")
    name = serializers.CharField(source="product.name")
    kind = serializers.SerializerMethodField()
    price = serializers.SerializerMethodField()
    state = serializers.CharField()
    max_per_order = serializers.IntegerField(source="product.max_per_order")
    slots = serializers.SerializerMethodField()

    def get_kind(self, offer: Any) -> str:
        return offer.product.kind.lower()

    @extend_schema_field(MoneySerializer)
    def get_price(self, offer: Any) -> dict[str, Any]:
        return offer.product.price.as_json()

    @extend_schema_field(SlotSerializer(many=True))
    def get_slots(self, offer: Any) -> list[dict[str, Any]]:
        return [SlotSerializer(entry.slot).data for entry in offer.slots]


class EventDetailSerializer(EventSerializer):
    products = OfferSerializer(many=True)
