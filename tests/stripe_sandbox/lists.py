"""Stripe's lists: newest first, cursors by id, `has_more` (docs.stripe.com/api/pagination)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import resource_missing
from .state import State

Record = dict[str, Any]
DEFAULT_LIMIT = 10


def page(
    state: State, kind: str, params: dict[str, Any], *, url: str, matches: Callable[[Record], bool] = lambda _: True
) -> Record:
    created = params.get("created", {})
    records = [
        record
        for record in state.newest_first(kind)
        if _created_matches(record["created"], created) and matches(record)
    ]
    limit = params.get("limit", DEFAULT_LIMIT)
    if cursor := params.get("starting_after"):
        rest = records[_position(state, kind, records, cursor, "starting_after") + 1 :]
        chosen, has_more = rest[:limit], len(rest) > limit
    elif cursor := params.get("ending_before"):
        rest = records[: _position(state, kind, records, cursor, "ending_before")]
        chosen, has_more = rest[-limit:], len(rest) > limit
    else:
        chosen, has_more = records[:limit], len(records) > limit
    return {"object": "list", "data": chosen, "has_more": has_more, "url": url}


def _position(state: State, kind: str, records: list[Record], cursor: str, param: str) -> int:
    for position, record in enumerate(records):
        if record["id"] == cursor:
            return position
    raise resource_missing(kind.lstrip("_"), cursor, param=param, in_path=False)


def _created_matches(created: int, bounds: dict[str, int]) -> bool:
    return (
        ("gt" not in bounds or created > bounds["gt"])
        and ("gte" not in bounds or created >= bounds["gte"])
        and ("lt" not in bounds or created < bounds["lt"])
        and ("lte" not in bounds or created <= bounds["lte"])
    )
