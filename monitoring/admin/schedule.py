"""Celery beat's schedule in the look of the other pages. config.beat writes the entries; staff may pause one."""

from typing import Any

from django.contrib import admin
from django_celery_beat.admin import ClockedScheduleAdmin as BeatsClockedScheduleAdmin
from django_celery_beat.admin import CrontabScheduleAdmin as BeatsCrontabScheduleAdmin
from django_celery_beat.admin import PeriodicTaskAdmin as BeatsPeriodicTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm as BeatsPeriodicTaskForm
from django_celery_beat.admin import PeriodicTaskInline as BeatsPeriodicTaskInline
from django_celery_beat.admin import TaskSelectWidget
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from ticketing.admin.bases import OfficeAdmin

for model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(model)


class TaskWidget(UnfoldAdminSelectWidget, TaskSelectWidget):
    """The registered tasks' names, in our look."""


class PeriodicTaskForm(BeatsPeriodicTaskForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskWidget()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(BeatsPeriodicTaskAdmin, OfficeAdmin):
    form = PeriodicTaskForm
    change_form_template = None  # theirs carries an inline script
    date_hierarchy = None
    list_display = ["name", "enabled", "scheduler", "last_run_at"]
    list_filter = ["enabled", "one_off"]


class PeriodicTaskInline(BeatsPeriodicTaskInline, TabularInline):
    hide_title = True


class ScheduleAdmin(OfficeAdmin):
    inlines = [PeriodicTaskInline]


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ScheduleAdmin):
    pass


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ScheduleAdmin):
    pass


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(BeatsCrontabScheduleAdmin, OfficeAdmin):
    inlines = [PeriodicTaskInline]


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(BeatsClockedScheduleAdmin, OfficeAdmin):
    inlines = [PeriodicTaskInline]
