"""The office's own pages: signs of life, the schedule, feature flags, and who did what in the back office."""

from monitoring.admin import flags, office, schedule

__all__ = ["flags", "office", "schedule"]
