"""The demo's folder: secrets, remembered ports, logs, data, and the lock that keeps a second demo out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.local import ports, processes
from deploy.local.services import write_private

LOG_LIMIT_BYTES = 5_000_000
# What a reset removes. Named one by one: the folder may hold things that are not ours.
DEMO_DATA = (
    *(
        "postgres",
        "redis",
        "stripe.sqlite3",
        "stripe.sqlite3-wal",
        "stripe.sqlite3-shm",
        "stripe.sqlite3-journal",
    ),
    *("mailbox", "static", "log", "demo.json", "demo-secrets.json", "ports.json", "control.sock"),
)


class DemoIsRunning(RuntimeError):
    """A demo already runs in this folder."""


@dataclass(frozen=True)
class DemoSecrets:
    """Made once per folder: sessions, tokens and the admin's password survive a restart."""

    secret_key: str
    admin_password: str
    stripe_secret_key: str
    stripe_publishable_key: str
    stripe_webhook_secret: str
    metrics_token: str
    maintenance_secret: str

    @classmethod
    def fresh(cls) -> DemoSecrets:
        return cls(
            secret_key=secrets.token_urlsafe(50),
            admin_password=secrets.token_urlsafe(12),
            stripe_secret_key="sk_test_" + secrets.token_hex(16),
            stripe_publishable_key="pk_test_" + secrets.token_hex(16),
            stripe_webhook_secret="whsec_" + secrets.token_hex(20),
            metrics_token=secrets.token_urlsafe(24),
            maintenance_secret=secrets.token_urlsafe(24),
        )


class VarFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.demo_json = self.path / "demo.json"
        self.socket = self.path / "control.sock"
        self.mailbox = self.path / "mailbox"
        self._lock: int | None = None

    def log(self, role: str) -> Path:
        return self.path / "log" / f"{role}.log"

    # --- the lock ------------------------------------------------------------------------------------

    def lock(self, *, patience_seconds: float = 10.0) -> int:
        """Take the folder, waiting out the watchdog of a supervisor that was killed a moment ago."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(handle, 100, 0).decode(errors="replace").strip()
                if self._is_alive(owner) or time.monotonic() > deadline:
                    os.close(handle)
                    raise DemoIsRunning(owner.split()[0] if owner else "?") from None
                time.sleep(0.1)
        me = processes.identify(os.getpid())
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} {me.started if me else ''}\n".encode(), 0)
        self._lock = handle
        return handle

    @staticmethod
    def _is_alive(owner: str) -> bool:
        pid, _, started = owner.partition(" ")
        return pid.isdigit() and processes.is_alive(processes.Process(int(pid), started))

    # --- what is remembered --------------------------------------------------------------------------

    def secrets(self) -> DemoSecrets:
        path = self.path / "demo-secrets.json"
        known = _read_json(path)
        merged = {**asdict(DemoSecrets.fresh()), **known}
        result = DemoSecrets(**{name: merged[name] for name in asdict(DemoSecrets.fresh())})
        if asdict(result) != known:
            write_private(path, json.dumps(asdict(result), indent=2) + "\n")
        return result

    def ports(self, roles: tuple[str, ...], *, taken: int) -> dict[str, int]:
        """The ports of the last run where they are still free, else new ones."""
        path = self.path / "ports.json"
        known = _read_json(path)
        chosen: dict[str, int] = {}
        for role in roles:
            used = frozenset({taken, *chosen.values()})
            port = known.get(role)
            if not isinstance(port, int) or port in used or not ports.is_free(port):
                port = ports.free_port(avoid=used)
            chosen[role] = port
        write_private(path, json.dumps(chosen, indent=2) + "\n")
        return chosen

    def write_demo_json(self, content: dict[str, Any]) -> None:
        write_private(self.demo_json, json.dumps(content, indent=2) + "\n")

    def forget_demo_json(self) -> None:
        self.demo_json.unlink(missing_ok=True)

    # --- logs and data -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Folders, and logs cut to size: one that grew large stays readable as `<role>.log.1`."""
        for folder in (self.path / "log", self.mailbox):
            folder.mkdir(mode=0o700, exist_ok=True)
        for log in (self.path / "log").glob("*.log"):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_name(log.name + ".1"))
        self.forget_demo_json()

    def wipe(self) -> None:
        for name in DEMO_DATA:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """A file that is missing or damaged counts as empty: everything in it can be made anew."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    return {}
