"""Named places where a test can make the process fail: `FAILPOINTS="after_stripe=kill,in_settle=sleep:2"`.

Off unless the setting names them, and check counterfoil.E007 refuses the setting outside tests.
"""

import os
import signal
import time

from django.conf import settings


class FailpointReached(RuntimeError):
    """A test asked for a failure here."""


def failpoint(name: str) -> None:
    """Does what the test build asked for at this place: `raise`, `sleep:SECONDS` or `kill` (SIGKILL to ourselves)."""
    action = settings.FAILPOINTS.get(name)
    if action is None:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action.startswith("sleep:"):
        time.sleep(float(action.removeprefix("sleep:")))
        return
    raise FailpointReached(name)
