from typing import Any

from django.db import migrations

SWITCHES = {
    "redis-locks": "Sweeps take turns by a lock in Redis. Off: they run side by side, which is as correct and costs more.",
}


def add(apps: Any, schema_editor: Any) -> None:
    for name, note in SWITCHES.items():
        apps.get_model("waffle", "Switch").objects.get_or_create(name=name, defaults={"active": True, "note": note})


def remove(apps: Any, schema_editor: Any) -> None:
    apps.get_model("waffle", "Switch").objects.filter(name__in=SWITCHES).delete()


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_initial"), ("waffle", "0004_update_everyone_nullbooleanfield")]

    operations = [migrations.RunPython(add, remove)]
