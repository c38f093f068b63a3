"""Prepares a fresh machine: `.venv` with exactly the locked packages and, for tests, a browser.

    python3 deploy/local/bootstrap.py demo
    python3 deploy/local/bootstrap.py test
    python3 deploy/local/bootstrap.py --browser

Standard library only, because nothing else is there yet. Does nothing when nothing changed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
# Stands while pip writes: a killed pip leaves packages that look installed and are not.
UNFINISHED = VENV / ".installing"
OLDEST_PYTHON = (3, 11)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
IS_TERMINAL = sys.stdout.isatty()


class Stop(Exception):
    """Cannot go on; the message says what to do."""


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def root_prefix() -> list[str] | None:
    """How to run a command as root without asking anybody: nothing to add, sudo, or not at all."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def run(argv: list[str], what: str, *, log: Path, env: dict[str, str] | None = None) -> bool:
    """Run with the output in a log, and tell every few seconds how far it is."""
    began = time.monotonic()
    over = threading.Event()
    log.parent.mkdir(parents=True, exist_ok=True)
    offset = log.stat().st_size if log.exists() else 0

    def tell() -> None:
        while not over.wait(0.5 if IS_TERMINAL else 5.0):
            text = f"{what}: {time.monotonic() - began:3.0f} s  {last_line(log, offset)}"
            print(
                f"\r\x1b[K  {text[:100]}" if IS_TERMINAL else f"  {text[:100]}",
                end="" if IS_TERMINAL else "\n",
            )
            sys.stdout.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        with log.open("ab") as output:
            # It keeps our lock (see `prepare`), should we be killed and it go on writing.
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                close_fds=False,
                check=False,
            )
    finally:
        over.set()
        teller.join()
        if IS_TERMINAL:
            print("\r\x1b[K", end="", flush=True)
    return done.returncode == 0


def last_line(log: Path, offset: int) -> str:
    """The newest line that tells people something: which package, not which byte."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    # As a dict: pip may name a package again for each that needs it.
    collected = list(dict.fromkeys(line.split()[1] for line in lines if re.match(r"Collecting \S+==", line)))
    if any(line.startswith("Installing collected packages") for line in lines):
        return f"writing {len(collected)} packages"
    if collected:
        return f"{len(collected)} packages, now {collected[-1]}"
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def log_tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join("    " + line for line in log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


# --- Python and its virtual environment ---------------------------------------------------------------------


def use_new_enough_python() -> None:
    """Continue under a newer interpreter from PATH when this one is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in (13, 12, 11, 14):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            os.execv(found, [found, __file__, *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    raise Stop("Python 3.11 or newer is needed (on Debian or Ubuntu: apt-get install python3.11 python3.11-venv).")


def answers(code: str) -> bool:
    if not PYTHON.exists():
        return False
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, check=False).returncode == 0


def make_venv() -> None:
    """A working `.venv`: kept if it works, made anew if it is missing, moved, too old or half-installed."""
    usable = answers(f"import pip, sys; raise SystemExit(sys.version_info < {OLDEST_PYTHON})")
    if usable and not UNFINISHED.exists():
        return
    if VENV.exists():
        say("an earlier installation was interrupted or no longer works: starting over")
        shutil.rmtree(VENV)
    say(f"making .venv with Python {sys.version.split()[0]}")
    makers = (venv_maker, virtualenv_maker, uv_maker) if can_make_venv() else (virtualenv_maker, uv_maker)
    for maker in makers:
        argv = maker()
        if argv and subprocess.run(argv, capture_output=True, check=False).returncode == 0 and answers("import pip"):
            return
        shutil.rmtree(VENV, ignore_errors=True)
    version = f"python3.{sys.version_info.minor}-venv"
    raise Stop(f"Python cannot make virtual environments here. Install {version} (apt-get install {version}).")


def venv_maker() -> list[str] | None:
    return [sys.executable, "-m", "venv", str(VENV)]


def virtualenv_maker() -> list[str] | None:
    if importlib.util.find_spec("virtualenv"):
        return [sys.executable, "-m", "virtualenv", str(VENV)]
    found = shutil.which("virtualenv")
    return [found, "--python", sys.executable, str(VENV)] if found else None


def uv_maker() -> list[str] | None:
    found = shutil.which("uv")
    return [found, "venv", "--seed", "--python", sys.executable, str(VENV)] if found else None


def can_make_venv() -> bool:
    """Debian splits `ensurepip` off into a package of its own."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return True
    say("Python's venv module is missing")
    minor = f"python3.{sys.version_info.minor}-venv"
    return apt_install([minor]) or apt_install(["python3-venv"])


def apt_install(packages: list[str]) -> bool:
    prefix = root_prefix()
    if prefix is None or not shutil.which("apt-get"):
        return False
    log = ROOT / "var" / "log" / "apt.log"
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    say(f"installing {' '.join(packages)} with apt-get")
    run([*apt, "update"], "package lists", log=log)  # may fail for one broken source; the installation decides
    if run([*apt, "install", "--no-install-recommends", *packages], "packages", log=log):
        return True
    print(log_tail(log), file=sys.stderr)
    return False


# --- packages -----------------------------------------------------------------------------------------------


def install(lock: str, *options: str) -> None:
    """One lock file, with hashes, unless exactly this one is installed already."""
    path = ROOT / lock
    stamp = VENV / f".{lock}.sha256"
    version = ".".join(str(number) for number in sys.version_info[:2])
    digest = hashlib.sha256(path.read_bytes() + version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    began = time.monotonic()
    say(f"installing {lock}")
    stamp.unlink(missing_ok=True)
    UNFINISHED.touch()
    # Compiling every module of every package ahead takes longer than the few that are imported later.
    pip = [str(PYTHON), "-m", "pip", "install", "--no-compile", "--no-input", "--progress-bar", "off"]
    pip += ["--disable-pip-version-check"]
    # A user's "pip install --user" habit does not work inside a virtual environment.
    env = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    if not run([*pip, "--require-hashes", *options, "-r", str(path)], lock, log=LOG, env=env):
        UNFINISHED.unlink()  # pip ended by itself: what it wrote is whole
        raise Stop(
            f"pip could not install {lock} (whole log: {LOG}). Run the same command again to continue.\n{log_tail(LOG)}"
        )
    UNFINISHED.unlink()
    stamp.write_text(digest)
    say(f"{lock} installed in {time.monotonic() - began:.0f} s")


# --- browser ------------------------------------------------------------------------------------------------


def find_browser() -> str | None:
    wanted = os.environ.get("CHROMIUM")
    if wanted:
        return shutil.which(wanted)
    found = (shutil.which(name) or shutil.which(name, path="/usr/bin") for name in BROWSERS)
    return next((path for path in found if path), None)


def ensure_browser() -> None:
    if os.environ.get("CHROMIUM") and not find_browser():
        raise Stop(f"CHROMIUM is set to {os.environ['CHROMIUM']}, which is no programme.")
    if find_browser():
        return
    say("no Chromium found for the browser tests")
    # Without any font a page has boxes where its text should be.
    if not apt_install(["chromium", "fonts-dejavu-core"]) or not find_browser():
        raise Stop(
            "The browser tests need Chromium: install it (apt-get install chromium), or set CHROMIUM to its path."
        )


def ensure_browser_for_tests() -> None:
    """CI must not go on without; a person may want to see the other tests."""
    try:
        ensure_browser()
    except Stop as stop:
        if os.environ.get("CI"):
            raise
        say(f"WARNING: {stop} The browser tests cannot pass without it.")


def prepare(mode: str) -> None:
    use_new_enough_python()
    # Two of these at once (make demo in one terminal, make test in another) take turns.
    folder = os.open(ROOT, os.O_RDONLY)
    os.set_inheritable(folder, True)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another installation is under way, waiting for it")
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        make_venv()
        install("requirements-dev.lock")
        if mode == "test":
            install("requirements-openapi.lock", "--no-deps")
            ensure_browser_for_tests()
    finally:
        os.close(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Prepares a fresh machine for the demo or the tests.")
    parser.add_argument("mode", nargs="?", choices=("demo", "test"), default="demo")
    parser.add_argument("--browser", action="store_true", help="only make sure that a Chromium is there")
    options = parser.parse_args()
    try:
        if options.browser:
            ensure_browser()
        else:
            prepare(options.mode)
    except Stop as stop:
        print(f"bootstrap: {stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
