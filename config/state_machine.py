"""Status moves: one conditional UPDATE each, its row count checked, and a line in the app's history.

A model with a status has `TRANSITIONS`, a table target ← sources on one screen, and a CHECK constraint made by
`status_is_known`. Nothing else may write the column.
"""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

Transitions = Mapping[str, frozenset[str]]


class MoveRefused(Exception):
    """The row is not, or no longer, in a status from which this move is allowed."""


class StatusChange(models.Model):
    """Append-only history of status moves; each app has its own table (`<app>.StatusChange`)."""

    kind = models.CharField(_("kind"), max_length=32)  # the model's name in lower case
    object_id = models.CharField(_("object"), max_length=40)
    from_status = models.CharField(_("from"), max_length=20)
    to_status = models.CharField(_("to"), max_length=20)
    by = models.CharField(_("by"), max_length=120)  # "webhook", "buyer", "expiry", "staff:12"
    why = models.CharField(_("why"), max_length=250)
    at = models.DateTimeField(_("at"), db_default=Now())

    class Meta:
        abstract = True
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}: {self.from_status} → {self.to_status}"


def status_is_known(model_name: str, statuses: type[models.TextChoices]) -> models.CheckConstraint:
    """The named constraint that keeps the column inside its enum."""
    return models.CheckConstraint(
        condition=models.Q(status__in=list(statuses.values)), name=f"{model_name}_status_is_known"
    )


def move(row: Any, to: str, *, by: str, why: str, **changes: Any) -> None:
    """Moves `row` to status `to`, together with `changes` to other columns of the row, and writes the history line.

    The UPDATE repeats the status we believe in, so a row that somebody moved meanwhile raises MoveRefused and
    nothing is written. Expressions such as `Now()` in `changes` are left unread on the instance (refresh to see them).
    """
    source = row.status
    if source not in row.TRANSITIONS.get(to, ()):
        raise MoveRefused(f"{row._meta.verbose_name} {row.pk}: {source} → {to} is not allowed")
    history = apps.get_model(row._meta.app_label, "StatusChange").objects
    # No savepoint: a refusal has written nothing, and it is raised outside, where it spoils no caller's transaction.
    with transaction.atomic(savepoint=False):
        moved = type(row)._default_manager.filter(pk=row.pk, status=source).update(status=to, **changes)
        if moved == 1:
            history.create(
                kind=row._meta.model_name, object_id=str(row.pk), from_status=source, to_status=to, by=by, why=why[:250]
            )
    if moved != 1:
        raise MoveRefused(f"{row._meta.verbose_name} {row.pk} is no longer {source}")
    row.status = to
    for name, value in changes.items():
        if not hasattr(value, "resolve_expression"):
            setattr(row, name, value)
