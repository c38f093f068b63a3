"""The office's own pages: signs of life, the schedule, and who did what in the back office."""

from monitoring.admin import office, schedule

__all__ = ["office", "schedule"]
