"""One API request, as an endpoint sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    request_id: str | None
    idempotency_key: str | None = None
    is_publishable: bool = False
    path: str = ""
    params: dict[str, Any] = field(default_factory=dict)


BACKGROUND = Call(request_id=None)
"""What happens on Stripe's side (a buyer's browser, a bank) belongs to no request of the merchant."""
