"""Makes the database ready for `make demo`: one process for everything that needs Django, since each start costs."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from knox.models import AuthToken

from reservations.models import PromoCode
from ticketing import demo_catalogue
from ticketing.models import Event, User

EMAIL = "staff@counterfoil.example"


class Command(BaseCommand):
    help = (
        "Migrates, collects static files and fills the demonstration: two organisers, five events, two promo codes, a "
        "staff account whose password is in DEMO_ADMIN_PASSWORD. Running it again changes no data. Refuses unless DEMO=on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="last line of output: what was made, as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        password = os.environ.get("DEMO_ADMIN_PASSWORD", "")
        if not settings.IS_DEMO:
            raise CommandError("This fills a demonstration; set DEMO=on if that is what you want.")
        if not password:
            raise CommandError("Set DEMO_ADMIN_PASSWORD to the password the demo's staff account shall have.")
        self._say("database: applying migrations")
        call_command("migrate", verbosity=0, interactive=False)
        self._say("pages: collecting static files")
        _collect_static()
        self._say("demo data: organisers, events, promo codes, staff")
        events = demo_catalogue.fill(now=timezone.now())
        _promo_codes(events[0])
        staff = _staff(password)
        AuthToken.objects.filter(user=staff).delete()
        _row, token = AuthToken.objects.create(user=staff)
        if options["json"]:
            made = {
                "admin": {"username": staff.email, "password": password},
                "staff_token": token,
                "events": [
                    {"name": event.name, "slug": event.slug, "path": event.get_absolute_url()} for event in events
                ],
            }
            self.stdout.write(json.dumps(made))
        else:
            self.stdout.write(f"{len(events)} events; sign in at /admin/ as {staff.email}")

    def _say(self, text: str) -> None:
        self.stderr.write(text)


def _collect_static() -> None:
    """Collects unless nothing has changed since the last time: hashing and compressing costs seconds at each start."""
    sources = [
        f"{path}:{(info := Path(storage.path(path)).stat()).st_size}:{info.st_mtime_ns}"
        for finder in get_finders()
        for path, storage in finder.list([])
    ]
    digest = hashlib.sha256("\n".join(sorted(sources)).encode()).hexdigest()
    stamp = Path(settings.STATIC_ROOT) / ".collected-from"
    if stamp.exists() and stamp.read_text() == digest:
        return
    call_command("collectstatic", verbosity=0, interactive=False)
    stamp.write_text(digest)


def _promo_codes(event: Event) -> None:
    """One for everything, as often as anybody likes; one for the balcony, twenty times, once each."""
    PromoCode.objects.get_or_create(event=event, code="WELCOME10", defaults={"percent_off": 10})
    friends, is_new = PromoCode.objects.get_or_create(
        event=event, code="FRIENDS", defaults={"amount_off_minor": 500, "max_uses": 20, "max_uses_per_buyer": 1}
    )
    if is_new:
        friends.products.set(event.products.filter(name__startswith="Balcony"))


def _staff(password: str) -> User:
    staff, is_new = User.objects.get_or_create(
        email=EMAIL, defaults={"name": "Demo Staff", "is_staff": True, "is_superuser": True}
    )
    if is_new or not staff.check_password(password):
        staff.set_password(password)
        staff.save()
    return staff
