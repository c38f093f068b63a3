"""Stop and start single parts of a running demo, to see what the rest does without them.

python -m deploy.local.control stop worker
python -m deploy.local.control start worker
python -m deploy.local.control status
python -m deploy.local.control reset          (erases a demo that does not run)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deploy.local.var_folder import DemoIsRunning, VarFolder

ROOT = Path(__file__).resolve().parents[2]
ANSWER_SECONDS = 60.0
LONGEST_MESSAGE_BYTES = 64_000


@contextlib.contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """A socket's path may have 107 characters; through a handle on its folder any path fits."""
    if not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlSocket:
    """The supervisor's ear: one JSON line in, one JSON line out, in a folder only its owner can enter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short_address(path) as address:
            self._listener.bind(address)
        path.chmod(0o600)
        self._listener.listen(8)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        return self._listener.fileno()

    def answer(self, handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with contextlib.suppress(OSError, ValueError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(1.0)
                reply = handle(dict(json.loads(_read_line(connection))))
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def close(self) -> None:
        self._listener.close()
        self.path.unlink(missing_ok=True)


def _read_line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n") and len(received) < LONGEST_MESSAGE_BYTES:
        piece = connection.recv(4096)
        if not piece:
            break
        received += piece
    return received


def ask(var: VarFolder, action: str, role: str | None = None) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        with _short_address(var.socket) as address:
            connection.connect(address)
        connection.sendall(json.dumps({"action": action, "role": role}).encode() + b"\n")
        return dict(json.loads(_read_line(connection)))


def show_status(parts: list[dict[str, Any]]) -> None:
    for part in parts:
        pid = f"pid {part['pid']}" if part["pid"] else ""
        print(f"{part['role']:<10} {part['state']:<12} {pid}")


def reset(var: VarFolder) -> int:
    try:
        var.lock(patience_seconds=5.0)
    except DemoIsRunning as running:
        print(f"The demo is running (pid {running}). Stop it first.", file=sys.stderr)
        return 1
    var.wipe()
    print("The demo's data is gone. The next start makes a new one.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.control", description="Steer a running demo.")
    parser.add_argument("action", choices=("status", "stop", "start", "restart", "reset"))
    parser.add_argument("role", nargs="?", help="postgres, redis, stripe, web, worker, beat or mailbox")
    parser.add_argument("--var", type=Path, default=ROOT / "var", help="the demo's folder (default: var)")
    options = parser.parse_args(arguments)
    var = VarFolder(options.var)
    if options.action == "reset":
        return reset(var)
    if options.action != "status" and not options.role:
        parser.error(f"{options.action} needs a ROLE")
    try:
        reply = ask(var, options.action, options.role)
    except (OSError, ValueError):
        print("No demo is running here (make demo starts one).", file=sys.stderr)
        return 1
    if "parts" in reply:
        show_status(reply["parts"])
    print(reply["message"], file=sys.stdout if reply["ok"] else sys.stderr)
    return 0 if reply["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
