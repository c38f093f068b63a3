"""What must be true, and is it."""

from monitoring.models.heartbeats import Heartbeat

__all__ = ["Heartbeat"]
