"""The hold engine's database functions; the SQL stands in files of its own beside this one."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"

UNDO = """
DROP FUNCTION reservations_reserve(uuid, text, bigint[], bigint[], int[], text, text, text);
DROP FUNCTION reservations_is_returning(bigint, bigint[]);
DROP FUNCTION reservations_sold_out(bigint, bigint[], bigint[], int[]);
DROP FUNCTION reservations_mistakes(bigint, bigint[], bigint[]);
DROP FUNCTION reservations_release_expired(int);
DROP FUNCTION reservations_end(uuid[], text, text, text, text);
DROP FUNCTION reservations_describe(uuid);
"""


class Migration(migrations.Migration):
    dependencies = [("reservations", "0002_initial"), ("ticketing", "0002_stock")]

    operations = [
        migrations.RunSQL((SQL / "0003_describe.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "0003_end.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "0003_reserve.sql").read_text(), UNDO),
        migrations.RunSQL(
            "ALTER TABLE reservations_reservation SET (fillfactor = 90)",
            "ALTER TABLE reservations_reservation RESET (fillfactor)",
        ),
    ]
