"""The demonstration's organisers and events. Dates count from the day it is first filled; filling again changes nothing."""

from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction

from ticketing.models import Event, Organiser, Product, Quota, Slot

ZONE = "Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Tier:
    """A product and the names of the quotas it draws on."""

    name: str
    price_minor: int
    quotas: tuple[str, ...]
    description: str = ""
    kind: str = Product.Kind.ADMISSION
    max_per_order: int = 10
    entries: int = 1
    valid_days: int | None = None


@dataclass(frozen=True, slots=True)
class Show:
    """An event as a table: `slots` are (day, hour) pairs whose quota has `slot_capacity`."""

    organiser: str
    slug: str
    name: str
    summary: str
    description: str
    venue: tuple[str, str]
    day: int
    hour: int
    hours: int
    quotas: dict[str, int]
    tiers: tuple[Tier, ...]
    slots: tuple[tuple[int, int], ...] = ()
    slot_capacity: int = 0
    currency: str = "EUR"
    hold_window_minutes: int = field(default=15)
    payment_mode: str = Event.PaymentMode.ELEMENTS
    accepts_slow_payments: bool = False


ORGANISERS = {
    "harbour-hall": ("Harbour Hall", "hello@harbour-hall.example"),
    "maker-collective": ("Maker Collective", "desk@maker-collective.example"),
}

SHOWS = (
    Show(
        organiser="harbour-hall",
        slug="northern-lights-live",
        name="Northern Lights – live at Harbour Hall",
        summary="An evening of strings, synths and slow light.",
        description="The quintet plays its new record in full, with an interval.\n\nDoors open an hour before the show. "
        "The balcony is seated, the floor is standing; the front row comes with a signed print.",
        venue=("Harbour Hall", "Kaistrasse 4, 20457 Hamburg"),
        day=24,
        accepts_slow_payments=True,
        hour=20,
        hours=3,
        quotas={"Floor": 400, "Balcony": 120, "Front row": 12, "Whole hall": 500},
        tiers=(
            Tier("Floor, standing", 3200, ("Floor", "Whole hall"), "On the floor, first come, best view."),
            Tier("Floor, reduced", 2200, ("Floor", "Whole hall"), "Students, pensioners, people without work."),
            Tier("Balcony, seated", 4500, ("Balcony", "Whole hall"), "Numbered chairs, all with a full view."),
            Tier("Front row", 8900, ("Front row", "Whole hall"), "With a signed print.", max_per_order=4),
        ),
    ),
    Show(
        organiser="maker-collective",
        slug="open-workshop-night",
        name="Open workshop night",
        summary="Bring something broken, leave with something fixed. Free.",
        description="Tools, tea and people who know how. Children are welcome with an adult.",
        venue=("The Shed", "Werkhof 11, 22765 Hamburg"),
        day=9,
        hour=18,
        hours=4,
        quotas={"Guests": 80},
        tiers=(Tier("Free place", 0, ("Guests",), "One per person, so that nobody queues in vain.", max_per_order=4),),
    ),
    Show(
        organiser="harbour-hall",
        slug="behind-the-stage-tour",
        name="Behind the stage: guided tour",
        summary="Ninety minutes above, below and behind the curtain.",
        description="Small groups, sturdy shoes. The tour includes the flying loft and is not free of steps.",
        venue=("Harbour Hall, stage door", "Kaistrasse 4, 20457 Hamburg"),
        day=5,
        hour=10,
        hours=24 * 9,
        quotas={},
        slots=((5, 11), (5, 14), (6, 11), (6, 14), (12, 11), (12, 14), (13, 11)),
        slot_capacity=12,
        tiers=(
            Tier("Adult", 1800, ()),
            Tier("Child up to 14", 900, (), "Only together with an adult."),
        ),
    ),
    Show(
        organiser="maker-collective",
        slug="pottery-classes",
        name="Pottery: five evenings at the wheel",
        summary="A pass for five classes, to use when it suits you.",
        description="Clay and firing are included. The pass is valid for 120 days from the purchase.",
        venue=("The Shed, studio 2", "Werkhof 11, 22765 Hamburg"),
        day=3,
        hour=18,
        hours=24 * 150,
        quotas={"Passes": 40},
        tiers=(
            Tier(
                "Pass for five classes",
                11500,
                ("Passes",),
                "Any Tuesday or Thursday evening.",
                kind=Product.Kind.PASS,
                max_per_order=2,
                entries=5,
                valid_days=120,
            ),
        ),
        payment_mode=Event.PaymentMode.HOSTED,
    ),
    Show(
        organiser="maker-collective",
        slug="letterpress-print-drop",
        name="Letterpress print: edition of 50",
        summary="Fifty numbered prints. When they are gone, they are gone.",
        description="Hand-set, hand-pulled, numbered. Pick yours up at the Shed; the QR code is your claim.",
        venue=("The Shed, counter", "Werkhof 11, 22765 Hamburg"),
        day=2,
        hour=12,
        hours=24 * 30,
        quotas={"Edition": 50},
        tiers=(Tier("Numbered print", 6500, ("Edition",), "One per person.", kind=Product.Kind.DROP, max_per_order=1),),
        hold_window_minutes=5,
    ),
)


@transaction.atomic
def fill(*, now: datetime) -> list[Event]:
    """Makes what is missing; events that exist are left as they are, whatever staff did to them."""
    organisers = {
        slug: Organiser.objects.get_or_create(slug=slug, defaults={"name": name, "email": email})[0]
        for slug, (name, email) in ORGANISERS.items()
    }
    return [_event(show, organisers[show.organiser], now=now) for show in SHOWS]


def _event(show: Show, organiser: Organiser, *, now: datetime) -> Event:
    found = Event.objects.filter(slug=show.slug).first()
    if found is not None:
        return found
    starts_at = _at(now, show.day, show.hour)
    event = Event.objects.create(
        organiser=organiser,
        slug=show.slug,
        name=show.name,
        summary=show.summary,
        description=show.description,
        status=Event.Status.PUBLISHED,
        venue_name=show.venue[0],
        venue_address=show.venue[1],
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=show.hours),
        time_zone=ZONE,
        currency=show.currency,
        hold_window_minutes=show.hold_window_minutes,
        payment_mode=show.payment_mode,
        accepts_slow_payments=show.accepts_slow_payments,
    )
    quotas = {
        name: Quota.objects.create(event=event, name=name, capacity=capacity) for name, capacity in show.quotas.items()
    }
    by_slot = [_slot_quota(event, _at(now, day, hour), show.slot_capacity) for day, hour in show.slots]
    for position, tier in enumerate(show.tiers):
        _product(event, tier, position).quotas.set([*(quotas[name] for name in tier.quotas), *by_slot])
    return event


def _product(event: Event, tier: Tier, position: int) -> Product:
    return Product.objects.create(
        event=event,
        name=tier.name,
        description=tier.description,
        kind=tier.kind,
        price_minor=tier.price_minor,
        position=position,
        max_per_order=tier.max_per_order,
        entries=tier.entries,
        valid_days=tier.valid_days,
    )


def _slot_quota(event: Event, starts_at: datetime, capacity: int) -> Quota:
    slot = Slot.objects.create(event=event, starts_at=starts_at, ends_at=starts_at + timedelta(minutes=90))
    return Quota.objects.create(event=event, slot=slot, name="Group", capacity=capacity)


def _at(now: datetime, day: int, hour: int) -> datetime:
    """`hour` o'clock there, `day` days from `now`: by the calendar, so a change of clocks moves nothing."""
    date = (now.astimezone(ZoneInfo(ZONE)) + timedelta(days=day)).date()
    return datetime.combine(date, time(hour), tzinfo=ZoneInfo(ZONE))
