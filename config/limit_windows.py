"""How limits are written in the environment: "10/m,100/h" is ten in any minute and a hundred in any hour; "off" is none."""

import re
from functools import lru_cache
from typing import NamedTuple

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_ENTRY = re.compile(r"([1-9]\d{0,8})/([smhd])")


class Window(NamedTuple):
    at_most: int
    seconds: int


@lru_cache(maxsize=64)
def windows(text: str) -> tuple[Window, ...]:
    """The windows of a limit. Raises ValueError."""
    if text.strip().lower() in {"", "off"}:
        return ()
    found = {}
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise ValueError(
                f"{entry.strip()!r} is no limit; write 10/m (units s, m, h, d), several with commas, or off."
            )
        seconds = SECONDS[match[2]]
        if seconds in found:
            raise ValueError(f"/{match[2]} is limited twice.")
        found[seconds] = Window(int(match[1]), seconds)
    return tuple(found.values())
