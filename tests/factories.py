"""The catalogue for tests. What comes after it (holds, orders, payments) is made by the domain functions themselves."""

from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from reservations.models import PromoCode
from ticketing.models import Event, Organiser, Product, Quota, Slot, User


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User

    class Params:
        staff = factory.Trait(is_staff=True, is_superuser=True)

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    name = "Ada Lovelace"


class OrganiserFactory(DjangoModelFactory[Organiser]):
    class Meta:
        model = Organiser

    name = factory.Sequence(lambda n: f"Organiser {n}")
    slug = factory.Faker("uuid4")


class EventFactory(DjangoModelFactory[Event]):
    """Published, tomorrow, in euro."""

    class Meta:
        model = Event

    class Params:
        draft = factory.Trait(status=Event.Status.DRAFT)
        cancelled = factory.Trait(status=Event.Status.CANCELLED)
        past = factory.Trait(
            starts_at=factory.LazyFunction(lambda: timezone.now() - timedelta(days=2)),
            ends_at=factory.LazyFunction(lambda: timezone.now() - timedelta(days=1)),
        )

    organiser = factory.SubFactory(OrganiserFactory)
    name = factory.Sequence(lambda n: f"Event {n}")
    slug = factory.Faker("uuid4")
    status = Event.Status.PUBLISHED
    starts_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=1))
    ends_at = factory.LazyAttribute(lambda event: event.starts_at + timedelta(hours=3))
    time_zone = "Europe/Berlin"
    currency = "EUR"
    accepts_slow_payments = True


class SlotFactory(DjangoModelFactory[Slot]):
    class Meta:
        model = Slot

    event = factory.SubFactory(EventFactory)
    starts_at = factory.Sequence(lambda n: timezone.now() + timedelta(hours=2 + n))
    ends_at = factory.LazyAttribute(lambda slot: slot.starts_at + timedelta(hours=1))


class QuotaFactory(DjangoModelFactory[Quota]):
    class Meta:
        model = Quota

    event = factory.SubFactory(EventFactory)
    name = factory.Sequence(lambda n: f"Quota {n}")
    capacity = 10


class ProductFactory(DjangoModelFactory[Product]):
    """With a quota of its own (`quota__capacity=…`), unless `quotas=[…]` names others."""

    class Meta:
        model = Product
        skip_postgeneration_save = True

    class Params:
        free = factory.Trait(price_minor=0)
        five_classes = factory.Trait(kind=Product.Kind.PASS, entries=5, valid_days=120)
        not_yet = factory.Trait(sale_starts_at=factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1)))
        no_longer = factory.Trait(sale_ends_at=factory.LazyFunction(lambda: timezone.now() - timedelta(hours=1)))
        stopped = factory.Trait(is_stopped=True)

    event = factory.SubFactory(EventFactory)
    name = factory.Sequence(lambda n: f"Product {n}")
    price_minor = 2500

    @factory.post_generation
    def quotas(self, create: bool, given: Any, **options: Any) -> None:
        self.quotas.set(given if given is not None else [QuotaFactory(event=self.event, **options)])


class PromoCodeFactory(DjangoModelFactory[PromoCode]):
    """Ten percent off everything, without limits, unless `percent_off`, `products=[…]` or a trait says otherwise."""

    class Meta:
        model = PromoCode
        skip_postgeneration_save = True

    class Params:
        two_euros = factory.Trait(percent_off=None, amount_off_minor=200)
        last_use = factory.Trait(max_uses=1)
        once_each = factory.Trait(max_uses_per_buyer=1)
        stopped = factory.Trait(is_stopped=True)
        not_yet = factory.Trait(starts_at=factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1)))
        over = factory.Trait(ends_at=factory.LazyFunction(lambda: timezone.now() - timedelta(hours=1)))

    event = factory.SubFactory(EventFactory)
    code = factory.Sequence(lambda n: f"CODE{n}")
    percent_off = 10

    @factory.post_generation
    def products(self, create: bool, given: Any, **options: Any) -> None:
        if create:
            self.products.set(given or [])
