from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reservations import orders
from reservations.models import Order


class Command(BaseCommand):
    help = "Issues the tickets that paid orders lack. Running it again issues nothing more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("code", nargs="*", help="order codes; none: every paid order with a line without ticket")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Order.objects.filter(code__in=options["code"]) if options["code"] else _lacking()
        known = {order.code: order.pk for order in found}
        unknown = set(options["code"]) - set(known)
        if unknown:
            raise CommandError(f"no order with code {', '.join(sorted(unknown))}")
        for code, order_id in known.items():
            self.stdout.write(f"{code}: {orders.ensure_tickets(order_id)} issued")
        if not known:
            self.stdout.write("no paid order lacks a ticket")


def _lacking() -> Any:
    return Order.objects.filter(status=Order.Status.PAID, lines__ticket__isnull=True).distinct()
