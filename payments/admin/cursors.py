"""How far Stripe's lists were read, so that staff see when the last look for missed events was."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from payments.models import StripeCursor
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import moment_column


@admin.register(StripeCursor)
class StripeCursorAdmin(RecordAdmin):
    list_display = ["name", "read_until", "finished"]
    fields = ["name", "read_to", "finished_at"]

    read_until = moment_column("read_to", _("read to"))
    finished = moment_column("finished_at", _("last run finished at"))
