from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from reservations import holds


class Command(BaseCommand):
    help = "Gives back what holds past their time still keep. Beat does this every minute; by hand it is always safe."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", type=int, default=None, help="holds per transaction (default: HOLD_SWEEP_BATCH)")

    def handle(self, *args: Any, **options: Any) -> None:
        released = holds.release_expired(batch=options["batch"])
        self.stdout.write(f"{released} released")
