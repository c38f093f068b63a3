"""A real `make demo` in a folder of its own, and a way to see everything it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.local import ports
from deploy.local.parts import get
from deploy.local.plan import ROOT

START_SECONDS = 180.0
# The suite's own services must not leak into a demo that shall bring its own.
NOT_INHERITED = (
    "DATABASE_URL",
    "REDIS_URL",
    "STRIPE_",
    "DJANGO_",
    "COUNTERFOIL_",
    "RESEND_",
    "EMAIL_",
    "PYTEST_",
)


def eventually(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return result


class DemoRun:
    def __init__(self, var: Path) -> None:
        self.var = var
        self.mark = uuid.uuid4().hex
        self.port = ports.free_port()
        self.output = var.parent / f"output-{self.mark}.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        return {**inherited, "DEMO_RUN_MARK": self.mark}

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            "-m",
            "deploy.local.supervisor",
            "--var",
            str(self.var),
            "--port",
            str(self.port),
        ]
        with self.output.open("ab") as output:
            return subprocess.Popen(
                [*argv, *options],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> dict[str, Any]:
        self.process = self.launch("--json")
        eventually("the demo is up or over", lambda: self.is_up() or self.is_over(), START_SECONDS)
        assert not self.is_over(), self.told()
        return self.facts()

    def is_up(self) -> bool:
        return (self.var / "demo.json").exists()

    def is_over(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def told(self) -> str:
        return self.output.read_text(errors="replace")

    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.var / "demo.json").read_text()))

    def answers(self, path: str) -> bool:
        return get(f"http://127.0.0.1:{self.port}{path}")[0] == 200

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "deploy.local.control", "--var", str(self.var), *arguments]
        return subprocess.run(argv, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False)

    def kill(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def remains(self) -> dict[int, str]:
        """Every living process of this demo: by its mark, its working folder or its command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._is_ours(entry):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def _is_ours(self, entry: Path) -> bool:
        if (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        if self.mark.encode() in (entry / "environ").read_bytes():
            return True
        if str(self.var).encode() in (entry / "cmdline").read_bytes():
            return True
        return (entry / "cwd").resolve().is_relative_to(self.var.resolve())

    def end(self) -> None:
        """Whatever the test did: nothing of it survives."""
        for pid in [self.process.pid] if self.process and not self.is_over() else []:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            eventually("it is gone", lambda: not self.remains(), 10)
        for pid in self.remains():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
