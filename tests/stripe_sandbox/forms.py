"""Stripe's form encoding: `a[b][0][c]=1` and `a[]=1` become dictionaries and lists."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from .errors import invalid_request

_KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
_PART = re.compile(r"\[([^\[\]]*)\]")
MAX_FIELDS = 2_000


def decode(text: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise invalid_request(f"Too many parameters: at most {MAX_FIELDS}.") from None
    tree: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.match(key)
        if not match:
            raise invalid_request(f"Invalid parameter name: {key}", param=key)
        _put(tree, [match[1], *_PART.findall(match[2])], value, key)
    return {name: _fold(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], path: list[str], value: str, key: str) -> None:
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part or str(len(node)), {})
        if not isinstance(node, dict):
            raise invalid_request(f"Invalid parameter: {key} is given both as a value and as a hash.", param=key)
    last = path[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise invalid_request(f"Invalid parameter: {key} is given both as a value and as a hash.", param=key)
    node[last] = value


def _fold(value: Any) -> Any:
    """A hash whose keys are 0, 1, 2 … is a list."""
    if not isinstance(value, dict):
        return value
    folded = {name: _fold(item) for name, item in value.items()}
    if folded and list(folded) == [str(position) for position in range(len(folded))]:
        return list(folded.values())
    return folded
