"""The hold functions, second form: many requests in one call, promo codes, one hold per buyer and event."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).parent / "sql"

DROP_FORMER = """
DROP FUNCTION reservations_reserve(uuid, text, bigint[], bigint[], int[], text, text, text);
DROP FUNCTION reservations_is_returning(bigint, bigint[]);
DROP FUNCTION reservations_sold_out(bigint, bigint[], bigint[], int[]);
DROP FUNCTION reservations_mistakes(bigint, bigint[], bigint[]);
"""
DROP_PRESENT = """
DROP FUNCTION reservations_reserve(
    text, uuid[], text[], text[], text[], text[], int[], int[], int[], bigint[], bigint[]);
DROP FUNCTION reservations_is_returning(bigint, bigint[], bigint[]);
"""


class Migration(migrations.Migration):
    dependencies = [("reservations", "0004_promo_codes_and_demand")]

    operations = [
        migrations.RunSQL(DROP_FORMER, (SQL / "0003_reserve.sql").read_text()),
        migrations.RunSQL((SQL / "0005_describe.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "0005_end.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL((SQL / "0005_reserve.sql").read_text(), DROP_PRESENT),
    ]
