import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from reservations import purge


class Command(BaseCommand):
    help = (
        "Deletes what nobody needs any more: holds that ended without an order more than HOLD_KEEP_DAYS ago, used "
        "signatures, old statistics and old sweep runs. Beat does this every hour; orders are never touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count what would be deleted")
        parser.add_argument("--json", action="store_true", help="the numbers as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        is_dry = options["dry_run"]
        numbers = purge.count_old_rows() if is_dry else purge.purge_old_rows(by="command")
        if options["json"]:
            self.stdout.write(json.dumps({"dry_run": is_dry, **numbers}))
            return
        for kind, number in numbers.items():
            self.stdout.write(f"{number} {kind.replace('_', ' ')} {'would be purged' if is_dry else 'purged'}")
