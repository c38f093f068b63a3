"""Brokers that refuse, in the place of the one that works."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kombu import pools

from config.celery import app


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def no_broker(working: str) -> Iterator[None]:
    """Celery in this process finds a closed port; `working` is the address to return to."""
    _connect_to(f"redis://127.0.0.1:{closed_port()}/0")
    try:
        yield
    finally:
        _connect_to(working)


def _connect_to(address: str) -> None:
    app.conf.broker_url = app.conf.broker_write_url = address
    pools.reset()
    app._after_fork()
