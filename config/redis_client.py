"""Redis for what is done in passing: rate limits and locks. It may be gone at any time, and costs nobody a wait then.

Whoever asks it names what happens without it, and keeps a `Reach` to know whether asking is worth the time.
"""

import os
import threading
import time
from functools import lru_cache

import structlog
from django.conf import settings
from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

logger = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 0.25
MOST_CONNECTIONS = 64  # per process: as many as it has threads, or the first to hang would make the others queue
RETRY_AFTER_SECONDS = 5.0

# Whatever Redis may do to us: refuse, hang, load its data, be full, be a replica; or its address is only a broker's.
Unusable = (RedisError, OSError, ValueError)


def client() -> Redis:
    """Shared by all threads; connects when it is first asked. Its commands raise one of `Unusable`."""
    return _client(settings.REDIS_URL)


@lru_cache(maxsize=4)
def _client(url: str) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),  # the caller has something better to do than to wait
        protocol=2,  # no handshake before the first command
        driver_info=None,
    )
    return Redis(connection_pool=pool)


class Reach:
    """Whether Redis is worth asking: after a failure, one thread tries again every five seconds, the others do without.

    Says once that it is gone, and once that it is back.
    """

    def __init__(self, purpose: str, *, without: str) -> None:
        self._purpose = purpose
        self._without = without
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._mutex = threading.Lock()
        self._is_lost = False
        self._next_try = 0.0

    def is_worth_a_try(self) -> bool:
        if not self._is_lost:
            return True
        with self._mutex:
            if time.monotonic() < self._next_try:
                return False
            self._next_try = time.monotonic() + RETRY_AFTER_SECONDS  # the others need not try too
            return True

    def failed(self, error: Exception) -> None:
        with self._mutex:
            self._next_try = time.monotonic() + RETRY_AFTER_SECONDS
            was_lost, self._is_lost = self._is_lost, True
        if not was_lost:
            problem = type(error).__name__
            logger.warning("redis gone", purpose=self._purpose, meanwhile=self._without, error=problem)

    def worked(self) -> None:
        if not self._is_lost:
            return
        with self._mutex:
            was_lost, self._is_lost = self._is_lost, False
        if was_lost:
            logger.warning("redis back", purpose=self._purpose)
