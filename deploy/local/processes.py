"""Starting, recognising and ending child processes.

Every child leads a session of its own, so a Ctrl-C in the terminal reaches only the supervisor, and
everything a child forked (server workers, pool processes) is found again by its session id. A process is
named by its pid *and* its start time: pids are reused, and we never signal a stranger.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
DEFAULT_STOP_SIGNAL = signal.SIGTERM
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: str


@dataclass(frozen=True)
class Row:
    """One line of the process table."""

    pid: int
    session: int
    started: str
    is_zombie: bool


def process_row(pid: int) -> Row | None:
    if sys.platform != "linux":
        return next((row for row in _ps_rows() if row.pid == pid), None)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; the fields start after the last one.
    fields = text.rpartition(")")[2].split()
    return Row(pid=pid, session=int(fields[3]), started=fields[19], is_zombie=fields[0] in "ZX")


def process_table() -> list[Row]:
    if sys.platform != "linux":
        return _ps_rows()
    rows = (process_row(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [row for row in rows if row is not None]


def _ps_rows() -> list[Row]:
    """Systems without /proc: process groups stand in for sessions."""
    listing = subprocess.run(["ps", "-axo", "pid=,pgid=,state=,lstart="], capture_output=True, text=True, check=True)
    split = (line.split(maxsplit=3) for line in listing.stdout.splitlines())
    return [Row(int(pid), int(group), start, state.startswith("Z")) for pid, group, state, start in split]


def identify(pid: int) -> Process | None:
    row = process_row(pid)
    return None if row is None or row.is_zombie else Process(pid, row.started)


def is_alive(process: Process) -> bool:
    return identify(process.pid) == process


def living(leaders: Iterable[Process]) -> list[int]:
    """The pids of the leaders and of everything in their sessions that still runs.

    When a leader's pid belongs to somebody younger, nothing of ours is left there: the kernel gives a number
    away only when no session bears it any more.
    """
    rows = process_table()
    starts = {row.pid: row.started for row in rows}
    ours = {leader.pid for leader in leaders if starts.get(leader.pid, leader.started) == leader.started}
    return [row.pid for row in rows if not row.is_zombie and (row.session in ours or row.pid in ours)]


def send(process: Process, number: signal.Signals) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def kill_sessions(leaders: Sequence[Process], *, deadline_seconds: float = 3.0) -> None:
    """SIGKILL whatever is left, again and again: a process may fork while we count."""
    deadline = time.monotonic() + deadline_seconds
    while (pids := living(leaders)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def spawn(
    argv: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    env: Mapping[str, str],
    cwd: Path,
    death_signal: signal.Signals | None = DEFAULT_STOP_SIGNAL,
    stdin: int = subprocess.DEVNULL,
    errors: int = subprocess.STDOUT,
    before_exec: Callable[[], None] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Child:
    """Start a session leader that gets `death_signal` should this process die.

    The kernel ties that to the calling *thread*, so call this from one that lives as long as the child shall.
    """
    parent = os.getpid()

    def in_child() -> None:
        if before_exec is not None:
            before_exec()
        if LIBC is not None and death_signal is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died between fork and prctl
                os._exit(1)

    popen = subprocess.Popen(
        [str(part) for part in argv],
        stdin=stdin,
        stdout=output,
        stderr=errors,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        preexec_fn=in_child,
        pass_fds=pass_fds,
    )
    return Child(popen)


class Child:
    """A spawned session leader together with everything it forks."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        row = process_row(popen.pid)  # even a child that ended at once has its row until we collect it
        self.leader = Process(popen.pid, row.started if row else "")

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def stop(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        """Signal the leader, each step with its patience in seconds; then kill the rest of its session."""
        for number, patience_seconds in steps:
            if not self.is_running:
                break
            self.popen.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(patience_seconds)
        self.kill()

    def kill(self) -> None:
        kill_sessions([self.leader])
        self.popen.wait()
