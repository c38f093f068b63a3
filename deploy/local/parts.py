"""The demo's processes, one `Part` each: how it starts, when it is ready, how it likes to be stopped."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import processes
from deploy.local.plan import ROOT, Plan

# Stopped in this order: first whoever talks to the others.
STOP_STAGES = (("web", "worker"), ("beat",), ("stripe", "mailbox"), ("postgres", "redis"))
RESTART_SECONDS = 10.0
LONGEST_RESTART_SECONDS = 120.0
SETTLED_SECONDS = 60.0  # whoever ran that long has no series of failures any more

# Loopback never goes through a proxy.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, timeout_seconds: float = 5.0) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answers."""
    try:
        with _opener.open(url, timeout=timeout_seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, ValueError):
        return 0, b""


@dataclass
class Part:
    role: str
    title: str
    log: Path
    start: Callable[[], processes.Child]
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    urgent_signal: signal.Signals = signal.SIGTERM
    patience_seconds: float = 5.0
    child: processes.Child | None = None
    is_wanted: bool = True
    failures: int = 0
    started_at: float = 0.0
    restart_at: float | None = None
    log_offset: int = 0

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child is not None and self.child.is_running else None

    @property
    def state(self) -> str:
        if self.pid is not None:
            return "running"
        return "restarting" if self.restart_at is not None else "stopped"

    def spawn(self) -> processes.Child:
        self.log_offset = self.log.stat().st_size if self.log.exists() else 0
        self.restart_at = None
        self.started_at = time.monotonic()
        self.child = self.start()
        return self.child

    def note_failure(self) -> float:
        """Plan the next start; returns the seconds until then: 10, 20, 40 … while it keeps failing."""
        if time.monotonic() - self.started_at > SETTLED_SECONDS:
            self.failures = 0
        self.failures += 1
        delay = min(RESTART_SECONDS * 2.0 ** min(self.failures - 1, 10), LONGEST_RESTART_SECONDS)
        self.restart_at = time.monotonic() + delay
        return delay

    def output(self, *, last_bytes: int = 1_000_000) -> str:
        """What it has written since it was started last, or the end of that."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self.log_offset, self.log.stat().st_size - last_bytes))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def tail(self, lines: int = 6) -> list[str]:
        return [line for line in self.output(last_bytes=4_000).splitlines() if line.strip()][-lines:]


def announcement(part: Part) -> dict[str, Any] | None:
    """The line of JSON with which the offline Stripe says where it listens."""
    for line in part.output().splitlines():
        if line.startswith("{") and '"ready"' in line:
            try:
                return dict(json.loads(line))
            except ValueError:
                continue  # half a line so far
    return None


def build_parts(plan: Plan) -> dict[str, Part]:
    parts = [_service_part(plan, role) for role in plan.services]
    commands = plan.commands()
    if "stripe" not in plan.external:
        parts.append(_command_part(plan, "stripe", "Offline Stripe", commands["stripe"], lambda: False))
        parts[-1].is_ready = lambda part=parts[-1]: announcement(part) is not None  # type: ignore[misc]
    parts += [
        _command_part(plan, "web", "Web", commands["web"], lambda: get(plan.base_url + "/livez/")[0] == 200),
        _command_part(plan, "worker", "Worker", commands["worker"], lambda: True),
        _command_part(plan, "beat", "Beat", commands["beat"], lambda: True),
        _command_part(plan, "mailbox", "Mailbox", commands["mailbox"], lambda: get(plan.mailbox_url)[0] == 200),
    ]
    by_role = {part.role: part for part in parts}
    if "worker" in by_role:
        by_role["worker"].urgent_signal = signal.SIGQUIT  # Celery's cold shutdown
        by_role["worker"].patience_seconds = 8.0
    return by_role


def _service_part(plan: Plan, role: str) -> Part:
    service = plan.services[role]
    part = Part(role, service.title, plan.var.log(role), service.spawn, service.is_ready)
    part.stop_signal, part.patience_seconds = service.stop_steps[0]
    part.urgent_signal = service.stop_steps[-1][0]
    return part


def _command_part(plan: Plan, role: str, title: str, argv: list[str], is_ready: Callable[[], bool]) -> Part:
    log = plan.var.log(role)

    def start() -> processes.Child:
        env = {"stripe": plan.stripe_env, "mailbox": plan.common_env}.get(role, lambda: plan.product_env(role))()
        with log.open("ab") as output:
            return processes.spawn(argv, output=output.fileno(), env=env, cwd=ROOT)

    return Part(role, title, log, start, is_ready)


def end_together(parts: Iterable[Part], is_urgent: Callable[[], bool]) -> None:
    """Ask all of them at once, wait for the most patient, then kill whatever is left of their sessions."""
    running = [part for part in parts if part.child is not None]
    for part in running:
        _signal(part, part.urgent_signal if is_urgent() else part.stop_signal)
    deadline = time.monotonic() + max((part.patience_seconds for part in running), default=0.0)
    while any(part.pid for part in running) and time.monotonic() < deadline and not is_urgent():
        time.sleep(0.03)
    if any(part.pid for part in running):
        for part in running:
            _signal(part, part.urgent_signal)
        deadline = time.monotonic() + 1.0
        while any(part.pid for part in running) and time.monotonic() < deadline:
            time.sleep(0.03)
    for part in running:
        if part.child is not None:
            part.child.kill()
            part.child = None


def _signal(part: Part, number: signal.Signals) -> None:
    if part.child is not None and part.child.is_running:
        part.child.popen.send_signal(number)
