"""PostgreSQL refuses to run as root, or as a user without a name. These are the ways to run it all the same.

1. Any other user: nothing to do.
2. A user namespace in which we appear as nobody. Files keep their owner, so the data may lie below a 0700
   home.
3. Where user namespaces are forbidden (most container engines): really nobody, who keeps the one capability
   of passing folders it does not own, because ours are closed to others.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWUSER = 0x10000000
NOBODY = 65534
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Identity:
    """How to become somebody PostgreSQL accepts, and who must own its files (None: leave them)."""

    name: str
    before_exec: Callable[[], None] | None
    file_owner: int | None


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def _enter_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    _check(libc.unshare(CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def _become_nobody() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    only = 1 << CAP_DAC_OVERRIDE
    header = _Header(CAPABILITY_VERSION_3, 0)
    _check(libc.capset(ctypes.byref(header), (_Data * 2)(_Data(only, only, only), _Data(0, 0, 0))), "capset")
    _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0), "PR_CAP_AMBIENT_RAISE")


def _works(before_exec: Callable[[], None]) -> bool:
    try:
        probe = subprocess.run(
            [sys.executable, "-I", "-S", "-c", "import os; raise SystemExit(os.geteuid() == 0)"],
            preexec_fn=before_exec,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return probe.returncode == 0


AS_WE_ARE = Identity("as the present user", None, None)
USER_NAMESPACE = Identity("in a user namespace", _enter_user_namespace, os.geteuid())
NOBODY_WITH_CAPABILITY = Identity("as nobody", _become_nobody, NOBODY)


@functools.cache
def identity() -> Identity:
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return AS_WE_ARE
    for candidate in (USER_NAMESPACE, NOBODY_WITH_CAPABILITY):
        if candidate.before_exec is not None and _works(candidate.before_exec):
            return candidate
    raise RuntimeError(
        "PostgreSQL runs neither as root nor as a user without a name, and this system allows neither a user "
        "namespace nor a change of user. Run as another user, or set DATABASE_URL."
    )


def _has_name(uid: int) -> bool:
    """Containers may run under a number that /etc/passwd does not know; PostgreSQL insists on a name."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def give_to_owner(folder: Path, owner: Identity) -> None:
    """Hand a data folder made under another identity to this one."""
    if owner.file_owner is None or folder.stat().st_uid == owner.file_owner:
        return
    for path in folder.rglob("*"):
        os.lchown(path, owner.file_owner, owner.file_owner)
    os.lchown(folder, owner.file_owner, owner.file_owner)  # last: it marks the work as done
