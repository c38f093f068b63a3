"""Object ids that look like Stripe's: a prefix, then letters and digits nobody can guess."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    return f"{prefix}_{_letters(length)}"


def new_client_secret(intent_id: str) -> str:
    return f"{intent_id}_secret_{_letters(25)}"


def _letters(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
