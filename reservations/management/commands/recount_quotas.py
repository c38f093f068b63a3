import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from reservations import recount, sweeping
from reservations.recount import Count
from ticketing.models import Event


class Command(BaseCommand):
    help = (
        "Compares the stock counters and the uses of promo codes with the claims and reservations they count. Safe "
        "while buyers buy. Exit code 0: all is right, or was mended; 1: something is wrong and was not mended; 2: no "
        "such event."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--event", metavar="SLUG", help="only this event (default: all)")
        parser.add_argument(
            "--mend", action="store_true", help="set what is wrong to what was counted, each under its own lock"
        )
        parser.add_argument("--json", action="store_true", help="the findings as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(recount.differing(event_id=_event_id(options["event"])))
        if options["mend"]:
            found = [recount.mend(count, by="command") for count in found]
        wrong = [count for count in found if not (options["mend"] and count.fits)]
        late = sweeping.holds_over(for_at_least=sweeping.LATE_AFTER)
        if options["json"]:
            findings = [_as_json(count, is_mended=count not in wrong) for count in found]
            self.stdout.write(json.dumps({"differing": findings, "holds_over_5_minutes": late}))
        else:
            for count in found:
                self.stdout.write(_in_words(count, is_mending=options["mend"]))
            self.stdout.write(f"{len(found)} counters differ from the books")
            self.stdout.write(f"{late} holds are stored as active 5 minutes after their end")
        if wrong:
            raise CommandError(
                f"{len(wrong)} could not be mended" if options["mend"] else "nothing was changed: --mend sets it right"
            )


def _event_id(slug: str | None) -> int | None:
    if slug is None:
        return None
    event = Event.objects.filter(slug=slug).first()
    if event is None:
        raise CommandError(f"no event {slug}", returncode=2)
    return event.pk


def _as_json(count: Count, *, is_mended: bool) -> dict[str, Any]:
    return {**count.as_json(), "is_mended": is_mended}


def _in_words(count: Count, *, is_mending: bool) -> str:
    numbers = ", ".join(f"{name} {count.stored[name]}, counted {count.counted[name]}" for name in count.stored)
    outcome = ""
    if is_mending:
        outcome = ": mended" if count.fits else f": not mended, {_remedy(count)}"
    return f"{count.event}, {count.kind.replace('_', ' ')} {count.name} ({count.id}): {numbers}{outcome}"


def _remedy(count: Count) -> str:
    least = sum(count.counted.values())
    if count.kind == "promo_code":
        return f"because it allows {count.limit} uses: allow {least} in the admin, or release holds, and run this again"
    return (
        f"because its capacity is {count.limit}: raise it to {least} in the admin, or release holds or refund orders, "
        "and run this again"
    )
