"""Reservations that are paid on Stripe's page cannot be extended, and say so."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("reservations", "0007_late_and_kept")]

    operations = [
        migrations.AddField(
            model_name="reservation",
            name="is_time_fixed",
            field=models.BooleanField(db_default=False, default=False, verbose_name="its buyer cannot extend it"),
        ),
        migrations.RunSQL((SQL / "0008_describe.sql").read_text(), (SQL / "0005_describe.sql").read_text()),
    ]
