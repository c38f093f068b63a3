"""The whole account in one object: what endpoints, pages and the control share."""

from __future__ import annotations

from typing import Any

from .agenda import Agenda
from .clock import Clock
from .disruptions import Disruptions
from .events import Events
from .faults import Faults
from .idempotency import Idempotency
from .options import Options
from .request_log import RequestLog
from .state import State
from .webhooks import Webhooks

SETTINGS = "_settings"
DEFAULTS: dict[str, Any] = {
    "id": "account",
    "clock_offset_seconds": 0.0,
    "webhooks_paused": False,
    "debit_settles_after_seconds": 5.0,
    "refund_settles_after_seconds": 5.0,
    "balance_is_insufficient": False,
}


class Sandbox:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.base_url = ""
        self.state = State(options.state)
        self.settings: dict[str, Any] = DEFAULTS | (self.state.get(SETTINGS, "account") or {})
        self.clock = Clock(self.settings["clock_offset_seconds"])
        self.clock.on_advance(self._remember_time)
        self.disruptions = Disruptions(self.state)
        self.faults = Faults(self.state, self.clock)
        self.idempotency = Idempotency(self.state, self.clock)
        self.request_log = RequestLog()
        self.webhooks = Webhooks(self)
        self.events = Events(self.state, self.clock, self.webhooks)
        self.agenda = Agenda(self)
        if options.webhook_url:
            self.webhooks.set_endpoint(options.webhook_url, list(options.webhook_secrets))
        self.state.commit()

    def _remember_time(self, offset_seconds: float) -> None:
        self.change_settings(clock_offset_seconds=offset_seconds)

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        self.settings.update(changes)
        self.state.save(SETTINGS, self.settings)
        self.state.commit()
        return self.settings

    def reset(self) -> None:
        """Forget all objects, faults and virtual time. The webhook endpoints that did not come by the API stay as they were."""
        self.state.clear(keep=frozenset(("_endpoint",)))
        self.webhooks.deliveries.forget()
        self.webhooks.forget_endpoints_of_the_api()
        self.request_log.clear()
        self.clock.offset_seconds = 0.0
        self.settings.clear()
        self.change_settings(**DEFAULTS)
