"""The supervisor's end of the line to its watchdog (see `watchdog.py`)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping

from deploy.local import processes
from deploy.local.plan import ROOT
from deploy.local.var_folder import VarFolder


class Guard:
    def __init__(self, var: VarFolder, lock: int, env: Mapping[str, str]) -> None:
        self._var = var
        self._lock = lock
        self._env = env
        self._watchdog: processes.Child | None = None
        self._charges: dict[processes.Process, signal.Signals] = {}

    def keep_alive(self) -> None:
        """Start the watchdog if it does not run, and tell it everything it has to know."""
        if self._watchdog is not None and self._watchdog.is_running:
            return
        with self._var.log("watchdog").open("ab") as output:
            self._watchdog = processes.spawn(
                [sys.executable, "-m", "deploy.local.watchdog", self._var.demo_json],
                output=output.fileno(),
                env=self._env,
                cwd=ROOT,
                death_signal=None,
                stdin=subprocess.PIPE,
                pass_fds=(self._lock,),
            )
        for leader, stop_signal in self._charges.items():
            self._tell("watch", leader, stop_signal)

    def watch(self, leader: processes.Process, stop_signal: signal.Signals) -> None:
        self._charges[leader] = stop_signal
        self._tell("watch", leader, stop_signal)

    def forget(self, leader: processes.Process) -> None:
        stop_signal = self._charges.pop(leader, None)
        if stop_signal is not None:
            self._tell("forget", leader, stop_signal)

    def _tell(self, what: str, leader: processes.Process, stop_signal: signal.Signals) -> None:
        if self._watchdog is None or self._watchdog.popen.stdin is None:
            return
        message = {"do": what, "pid": leader.pid, "started": leader.started, "signal": int(stop_signal)}
        with contextlib.suppress(OSError):  # it died: the next `keep_alive` tells its successor everything
            self._watchdog.popen.stdin.write(json.dumps(message).encode() + b"\n")
            self._watchdog.popen.stdin.flush()

    def dismiss(self) -> None:
        """The end of the line: the watchdog ends whatever still runs, then itself."""
        if self._watchdog is not None and self._watchdog.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._watchdog.popen.stdin.close()
            self._watchdog.popen.wait()
