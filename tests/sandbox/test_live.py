"""How tests that hold for Stripe itself are chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import live

ROOT = Path(__file__).resolve().parents[2]


def _collect(key: str | None, *arguments: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != live.VARIABLE}
    if key is not None:
        environment[live.VARIABLE] = key
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_without_a_key_stripes_half_is_deselected_and_counted() -> None:
    code, output = _collect(None, "-m", "live", "tests/sandbox/test_refunds.py")
    assert code == 0 and "[offline" in output and "[stripe" not in output
    assert "deselected" in output


def test_with_a_key_both_halves_run() -> None:
    code, output = _collect("sk_test_somebody", "-m", "live", "tests/sandbox/test_refunds.py")
    assert code == 0
    assert output.count("[offline") == output.count("[stripe") > 5


@pytest.mark.parametrize("key", ["sk_live_somebody", "pk_test_somebody", "whatever"])
def test_real_money_is_never_moved(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(live.VARIABLE, key)
    with pytest.raises(pytest.UsageError, match="must be a key of test mode"):
        live.key()
