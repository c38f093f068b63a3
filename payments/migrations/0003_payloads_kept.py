from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0002_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="webhookevent",
            index=models.Index(
                fields=["processed_at"],
                condition=models.Q(("status__in", ["PROCESSED", "IGNORED"]), models.Q(("payload", {}), _negated=True)),
                name="webhook_event_payload_kept",
            ),
        ),
    ]
