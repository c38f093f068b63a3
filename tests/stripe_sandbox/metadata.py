"""Metadata rules shared by every object that carries it (docs.stripe.com/api/metadata)."""

from __future__ import annotations

from .errors import invalid_request
from .params import Metadata


def merge(current: dict[str, str], given: dict[str, str] | None) -> dict[str, str]:
    """New keys are added, an empty value unsets its key, an empty hash unsets them all."""
    if given is None:
        return {}
    merged = {key: value for key, value in (current | given).items() if value != ""}
    if len(merged) > Metadata.KEYS:
        raise invalid_request(
            f"Metadata cannot have more than {Metadata.KEYS} keys (this update would make {len(merged)}).",
            code="too_many_keys",
            param="metadata",
        )
    return merged
