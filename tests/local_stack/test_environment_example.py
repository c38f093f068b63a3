"""`.env.example` names every variable that the settings read, and no other."""

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Set by our own processes and test runs, never by an operator.
INTERNAL = {"FAILPOINTS", "COUNTERFOIL_PROCESS", "DJANGO_SETTINGS_MODULE"}
# Read by compose.yaml alone.
COMPOSE = {"POSTGRES_PASSWORD", "VALKEY_PASSWORD"}


def names_read_by_settings() -> set[str]:
    sources = [path.read_text() for path in sorted((ROOT / "config").glob("*.py"))]
    return {name for text in sources for name in re.findall(r'\bread\(\s*env\.\w+,\s*"([A-Z0-9_]+)"', text)}


def names_in_example() -> set[str]:
    return set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))


def test_every_setting_is_in_the_example() -> None:
    assert names_read_by_settings() - names_in_example() - INTERNAL == set()


def test_the_example_names_nothing_that_is_not_read() -> None:
    assert names_in_example() - names_read_by_settings() - COMPOSE == set()


def test_every_variable_has_its_line_of_explanation() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = itertools.pairwise(lines)
    assert [line for before, line in pairs if "=" in line and line[0] != "#" and before[:2] != "# "] == []
