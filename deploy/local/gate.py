"""`make test`: the quality gate, then the test suite, whose closing line comes last.

Every step runs even if an earlier one failed; the exit code is non-zero if any did. With CI set, skipped
tests count as failures: a test that quietly does not run protects nothing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from deploy.local.bootstrap import find_browser
from deploy.local.services import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

# A configuration as in production: what `check --deploy` finds here, it would find there.
PRODUCTION_LIKE = {
    "DEBUG": "off",
    "SECRET_KEY": "a-long-enough-secret-key-made-for-the-gate-0123456789-abcdefghijklmnopqrstuvwxyz",
    "ALLOWED_HOSTS": "tickets.example.org",
    "PUBLIC_URL": "https://tickets.example.org",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STRIPE_SECRET_KEY": "sk_test_gate",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_gate",
    "STRIPE_WEBHOOK_SECRETS": "whsec_gate",
    "METRICS_TOKEN": "metrics-token-made-for-the-gate-0123456789",
    "MAINTENANCE_SECRET": "maintenance-secret-made-for-the-gate-0123456789",
    "RESEND_API_KEY": "re_gate",
    "DEFAULT_FROM_EMAIL": "tickets@example.org",
    "ALERT_EMAILS": "staff@example.org",
    "TRUSTED_PROXIES": "127.0.0.1",
}


def run(title: str, argv: list[str], env: dict[str, str] | None = None) -> bool:
    print(f"\n== {title}: {shlex.join([Path(argv[0]).name, *argv[1:]])}", flush=True)
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, check=False)
    verdict = "ok" if done.returncode == 0 else f"FAILED (exit code {done.returncode})"
    print(f"== {title}: {verdict}, {time.monotonic() - began:.1f} s", flush=True)
    return done.returncode == 0


def linters() -> list[tuple[str, list[str]]]:
    return [
        ("style", [sys.executable, "-m", "ruff", "check", "."]),
        ("format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
        ("types", [sys.executable, "-m", "mypy"]),
        ("import rules", [str(BIN / "lint-imports")]),
    ]


def django_checks() -> list[tuple[str, list[str]]]:
    manage = [sys.executable, "manage.py"]
    return [
        ("migrations complete", [*manage, "makemigrations", "--check", "--dry-run"]),
        ("deployment checks", [*manage, "check", "--deploy", "--fail-level", "WARNING"]),
    ]


def quality() -> list[str]:
    """Run everything but the tests; returns the titles of what failed."""
    failed = [title for title, argv in linters() if not run(title, argv)]
    with (
        tempfile.TemporaryDirectory(prefix="counterfoil-gate-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres", durable=False) as postgres,
    ):
        env = {**PRODUCTION_LIKE, "DATABASE_URL": postgres.url}
        failed += [title for title, argv in django_checks() if not run(title, argv, env)]
    return failed


def tests() -> int:
    """Pytest's own exit code (5: no test at all), or 1 in CI when tests were skipped."""
    browser = find_browser()
    env = {**os.environ, **({"CHROMIUM": browser} if browser else {})}
    with tempfile.TemporaryDirectory(prefix="counterfoil-gate-") as folder:
        report = Path(folder) / "pytest.xml"
        argv = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", f"--junitxml={report}"]
        argv += shlex.split(os.environ.get("PYTEST_ARGS", ""))
        print("\n== tests: pytest", flush=True)
        code = subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, check=False).returncode
        if code == 0 and os.environ.get("CI") and (skipped := skipped_tests(report)):
            print(f"FAILED: {len(skipped)} skipped tests, which CI does not accept:", *skipped, sep="\n  ")
            return 1
    return code


def skipped_tests(report: Path) -> list[str]:
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it a second ago
    return [
        f"{case.get('classname')}.{case.get('name')}: {reason.get('message')}"
        for case in cases
        for reason in case.iter("skipped")
        if reason.get("type") != "pytest.xfail"
    ]


def main() -> int:
    failed = quality()
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    print(f"\n== gate before the tests: {verdict}", flush=True)
    code = tests()
    return code or (1 if failed else 0)


if __name__ == "__main__":
    raise SystemExit(main())
