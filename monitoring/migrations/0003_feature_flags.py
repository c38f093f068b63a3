from typing import Any

from django.db import migrations

FLAGS = {
    "redis-locks": "Sweeps take turns by a lock in Redis. Off: they run side by side, which is as correct and costs more.",
    "hold-combining": (
        "Holds of one event that arrive together share a round trip to the database."
        " Off: each hold goes by itself, which is as correct and slower in a rush."
    ),
    "hosted-checkout": (
        "Events may send their buyers to Stripe's own payment page. Off: every buyer pays in the form on our page."
    ),
    "stripe-breaker": (
        "Calls to Stripe stop while Stripe is down or refuses our key, and while staff pause payments."
        " Off: every call goes through and waits for its own timeout; calls are still counted."
    ),
    "auto-refund": "Money that nothing can be given for is refunded at once. Off: the refund waits for staff.",
    "self-service-sync": (
        "Buyers who wait for their tickets can have Stripe asked."
        " Off: they are answered from our books, which webhooks and sweeps keep up to date."
    ),
}
WAS_A_SWITCH = "redis-locks"


def add(apps: Any, schema_editor: Any) -> None:
    """An "off" of the switch stays off."""
    switches = apps.get_model("waffle", "Switch").objects.filter(name=WAS_A_SWITCH)
    was_off = switches.filter(active=False).exists()
    for name, note in FLAGS.items():
        is_on = not (name == WAS_A_SWITCH and was_off)
        apps.get_model("waffle", "Flag").objects.get_or_create(
            name=name, defaults={"everyone": is_on, "note": note, "superusers": False}
        )
    switches.delete()


def remove(apps: Any, schema_editor: Any) -> None:
    flags = apps.get_model("waffle", "Flag").objects.filter(name__in=FLAGS)
    was_off = flags.filter(name=WAS_A_SWITCH, everyone=False).exists()
    apps.get_model("waffle", "Switch").objects.get_or_create(
        name=WAS_A_SWITCH, defaults={"active": not was_off, "note": FLAGS[WAS_A_SWITCH]}
    )
    flags.delete()


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0002_switches"), ("waffle", "0004_update_everyone_nullbooleanfield")]

    operations = [migrations.RunPython(add, remove)]
