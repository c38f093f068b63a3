"""Reads what a buyer chose on the event page."""

from django.http import QueryDict

from reservations.holds import Wanted

MOST_LINES = 50  # as in the API
LONGEST_CODE = 40


def wanted_lines(form: QueryDict) -> list[Wanted]:
    """The lines that the form asks for; ValueError for quantities or slots that are no numbers."""
    wanted: list[Wanted] = []
    for name, value in form.items():
        if len(wanted) > MOST_LINES:
            raise ValueError(name)
        if not name.startswith("quantity-") or not str(value).strip():
            continue
        product_id, quantity = _whole(name.removeprefix("quantity-")), _whole(str(value).strip())
        if quantity > 1_000 or not 0 < product_id < 2**63:
            raise ValueError(name)
        if quantity:
            slot = form.get(f"slot-{product_id}")
            slot_id = _whole(slot) if slot else None
            if slot_id is not None and not 0 < slot_id < 2**63:
                raise ValueError(name)
            wanted.append(Wanted(product_id, slot_id, quantity))
    return wanted


def promo_code(form: QueryDict) -> str:
    """A promo code as it was typed; more than any code has is cut off, so that it is unknown and not stored anywhere."""
    return form.get("code", "").replace("\x00", "").strip()[: LONGEST_CODE + 1]


def _whole(text: str) -> int:
    """Digits and nothing else: int() would also take "1_0" and digits of other scripts."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)
