"""Run it: `python -m tests.stripe_sandbox --help`."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from . import app, options
from .sandbox import Sandbox

PR_SET_PDEATHSIG = 1


def main() -> None:
    given = options.parse()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    if given.stop_with_parent:
        _stop_with_parent()
    asyncio.run(_serve(given))


async def _serve(given: options.Options) -> None:
    if given.state:
        Path(given.state).parent.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server((given.host, given.port), backlog=512)
    host, port = listener.getsockname()[:2]
    sandbox = Sandbox(given)
    sandbox.base_url = f"http://{host}:{port}"
    runner = web.AppRunner(app.build(sandbox), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    _announce(sandbox.base_url)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    await runner.cleanup()


def _announce(base_url: str) -> None:
    ready = {
        "ready": True,
        "api_base": base_url,
        "stripe_js_url": f"{base_url}/v3/stripe.js",
        "dashboard_url": f"{base_url}/dashboard/",
        "control_url": f"{base_url}/_control/",
    }
    print(json.dumps(ready), flush=True)


def _stop_with_parent() -> None:
    """Linux: be told when the parent dies, even by SIGKILL. Elsewhere the parent has to tidy up."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            sys.exit("the parent is already gone")


if __name__ == "__main__":
    main()
