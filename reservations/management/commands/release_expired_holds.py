from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reservations import sweeping


class Command(BaseCommand):
    help = (
        "Gives back what holds past their time still keep. Beat does this every minute; by hand it is always safe. "
        "Exit code 1: some could not be released."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--batch", type=int, default=None, help="holds per transaction (default: HOLD_SWEEP_BATCH)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["batch"] is not None and options["batch"] < 1:
            raise CommandError("--batch: 1 or more", returncode=2)
        released = sweeping.sweep_expired_holds(by="command", batch=options["batch"])
        self.stdout.write(f"{released} released")
        # Those of the last seconds may have ended meanwhile, or be in another sweep's hands.
        if left := sweeping.holds_over(for_at_least=timedelta(minutes=1)):
            raise CommandError(f"{left} could not be released: see manage.py recount_quotas, and the log")
