"""Ends the demo's processes when the supervisor cannot do it any more, because it was killed.

The supervisor tells us on our standard input whom it started; the kernel closes that pipe with it, however it
dies. We also hold its lock, so that the next supervisor waits until we are done.

    python -m deploy.local.watchdog FILE_TO_REMOVE < pipe
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

from deploy.local import processes

GRACE_SECONDS = 2.0


def listen() -> dict[processes.Process, signal.Signals]:
    """Everybody still to be ended once the pipe closes, and the signal each understands as "please stop"."""
    charges: dict[processes.Process, signal.Signals] = {}
    for line in sys.stdin:
        message = json.loads(line)
        process = processes.Process(message["pid"], message["started"])
        if message["do"] == "watch":
            charges[process] = signal.Signals(message["signal"])
        else:
            charges.pop(process, None)
    return charges


def end(charges: dict[processes.Process, signal.Signals]) -> None:
    leaders = list(charges)
    for leader, number in charges.items():
        processes.send(leader, number)
    deadline = time.monotonic() + GRACE_SECONDS
    while processes.living(leaders) and time.monotonic() < deadline:
        time.sleep(0.05)
    processes.kill_sessions(leaders)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(listen())
    Path(sys.argv[1]).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
