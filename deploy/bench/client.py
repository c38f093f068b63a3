"""One process of the load generator: reads a job, connects, says "ready", waits for "go" and does it.

    python -m deploy.bench.client   (deploy.bench.load starts it and speaks to it)

Latencies count from the moment a request is sent; in an open loop from the moment it was due, so that a server that
falls behind cannot hide it by making the client wait. Readiness is asked of the kernel in milliseconds, so an open
loop may send up to one late; that is in the latency too.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import resource
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from deploy.bench.jobs import Job, Kind, Tally
from deploy.bench.wire import KEY_PLACE, BadAnswer, Connection

PATIENCE_SECONDS = 30.0  # without any answer at all
BREAKS_AT_MOST = 1_000  # then the server is gone, and going on would only measure our own errors


class Client:
    def __init__(self, job: Job, orders: io.FileIO) -> None:
        self.job = job
        self.orders = orders
        self.tally = Tally()
        self.selector = selectors.DefaultSelector()
        self.next_request = _requests(job).__next__
        self.is_told_to_stop = False
        self.cpu_began = time.process_time()

    def run(self, begin: Callable[[], float]) -> Tally:
        """`begin` tells the parent that all is ready, and returns when the work shall start."""
        work = {Kind.CLOSED: self.closed_loop, Kind.BURST: self.burst}
        work.get(self.job.kind, self.open_loop)(begin)
        self.tally.cpu_seconds = time.process_time() - self.cpu_began
        return self.tally

    # --- connections ---------------------------------------------------------------------------------

    def connect(self, count: int) -> list[Connection]:
        """So many connections that stand, registered for reading."""
        opening = [Connection((self.job.host, self.job.port)) for _ in range(count)]
        with selectors.DefaultSelector() as waiting:
            for connection in opening:
                waiting.register(connection, selectors.EVENT_WRITE, connection)
            while waiting.get_map():
                ready = waiting.select(PATIENCE_SECONDS)
                if not ready:
                    raise BadAnswer("cannot connect")
                for key, _ in ready:
                    waiting.unregister(key.fileobj)
        for connection in opening:
            self.selector.register(connection, selectors.EVENT_READ, connection)
        return opening

    def replace(self, broken: Connection, why: BadAnswer) -> Connection:
        self.drop(broken, why)
        if self.tally.broken.total() >= BREAKS_AT_MOST:
            raise why
        return self.connect(1)[0]

    def reconnected(self, resting: Connection) -> Connection:
        """In place of one that the server closed while nothing was asked of it, which is its right."""
        self.selector.unregister(resting)
        resting.close()
        return self.connect(1)[0]

    def drop(self, connection: Connection, why: BadAnswer) -> None:
        self.tally.broken[str(why)] += 1
        self.selector.unregister(connection)
        connection.close()

    def listen_for_orders(self) -> None:
        """The parent may say "stop" before the time is up; if it is gone, that reads as a stop too."""
        self.selector.register(self.orders, selectors.EVENT_READ, None)

    def ready(self, timeout: float) -> Iterator[Connection]:
        for key, _ in self.selector.select(timeout):
            if key.data is None:
                self.is_told_to_stop = True
                self.selector.unregister(self.orders)
            else:
                yield key.data

    def answered(self, connection: Connection) -> bool:
        """Whether its answer is whole; then it is counted."""
        status = connection.receive()
        if status is None:
            return False
        now = time.monotonic()
        self.tally.note(status, now, now - connection.began)
        return True

    # --- the three kinds of load ---------------------------------------------------------------------

    def closed_loop(self, begin: Callable[[], float]) -> None:
        connections = self.connect(self.job.connections)
        self.listen_for_orders()
        until = begin() + self.job.seconds
        busy = set(connections)
        for connection in connections:
            connection.send(self.next_request(), time.monotonic())
        heard_at = time.monotonic()
        while busy:
            for connection in self.ready(1.0):
                heard_at = time.monotonic()
                goes_on = heard_at < until and not self.is_told_to_stop
                try:
                    if not self.answered(connection):
                        continue
                    if goes_on:
                        connection.send(self.next_request(), time.monotonic())
                    else:
                        busy.discard(connection)
                except BadAnswer as error:
                    busy.discard(connection)
                    if goes_on:
                        other = self.replace(connection, error)
                        other.send(self.next_request(), time.monotonic())
                        busy.add(other)
                    else:
                        self.drop(connection, error)
            if time.monotonic() - heard_at > PATIENCE_SECONDS:
                self.tally.broken["no answer"] += len(busy)
                return

    def open_loop(self, begin: Callable[[], float]) -> None:
        idle = deque(self.connect(self.job.connections))  # in turn: one that rests too long is closed by the server
        self.listen_for_orders()
        began = begin()
        arrivals = deque(began + offset for offset in _arrivals(self.job))
        waiting: deque[float] = deque()  # due, but no connection is free
        busy: set[Connection] = set()
        heard_at = began
        while arrivals or waiting or busy:
            now = time.monotonic()
            waiting.extend(self.due(arrivals, now))
            while waiting and idle:
                connection = idle.popleft()
                connection.send(self.next_request(), waiting.popleft())
                busy.add(connection)
            for connection in self.ready(max(0.0, arrivals[0] - now) if arrivals else 1.0):
                heard_at = time.monotonic()
                if connection not in busy:
                    idle.remove(connection)
                    idle.append(self.reconnected(connection))
                    continue
                try:
                    if not self.answered(connection):
                        continue
                    idle.append(connection)
                except BadAnswer as error:
                    idle.append(self.replace(connection, error))
                busy.discard(connection)
            if not busy:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > PATIENCE_SECONDS:
                self.tally.broken["no answer"] += len(busy) + len(waiting)
                return

    def due(self, arrivals: deque[float], now: float) -> Iterator[float]:
        """Takes from the arrivals those whose time has come; forgets the rest once we were told to stop."""
        if self.is_told_to_stop:
            arrivals.clear()
        while arrivals and arrivals[0] <= now:
            yield arrivals.popleft()

    def burst(self, begin: Callable[[], float]) -> None:
        if self.job.is_warm:
            connections = self.connect(self.job.connections)
            begin()
            busy = set(connections)
            for connection in connections:
                connection.send(self.next_request(), time.monotonic())
        else:
            begin()
            busy = self.call_cold()
        while busy:
            heard = False
            for connection in self.ready(PATIENCE_SECONDS):
                heard = True
                try:
                    if self.answered(connection):  # it stays open, as a browser's does, but what comes now is no answer
                        busy.discard(connection)
                        self.selector.unregister(connection)
                except BadAnswer as error:
                    busy.discard(connection)
                    self.drop(connection, error)
            if not heard:
                self.tally.broken["no answer"] += len(busy)
                return

    def call_cold(self) -> set[Connection]:
        """Connects and asks; latencies count from the first packet to the server."""
        opening = {}
        with selectors.DefaultSelector() as waiting:
            for _ in range(self.job.connections):
                began = time.monotonic()
                connection = Connection((self.job.host, self.job.port))
                opening[connection] = began
                waiting.register(connection, selectors.EVENT_WRITE, connection)
            while waiting.get_map():
                ready = waiting.select(PATIENCE_SECONDS)
                if not ready:
                    raise BadAnswer("cannot connect")
                for key, _ in ready:
                    connection = key.data
                    waiting.unregister(connection)
                    self.selector.register(connection, selectors.EVENT_READ, connection)
                    try:
                        connection.send(self.next_request(), opening[connection])
                    except BadAnswer as error:
                        del opening[connection]
                        self.drop(connection, error)
        return set(opening)


def _requests(job: Job) -> Iterator[bytes]:
    """The job's requests in turn, each key place filled with a key that no other request has."""
    turn = itertools.count()
    mark = f"{os.getpid():08x}{time.time_ns():016x}"
    parts = [content.partition(KEY_PLACE) for content in job.requests]
    for before, place, after in itertools.cycle(parts):
        yield before + f"{mark}{next(turn):08x}".encode() + after if place else before


def _arrivals(job: Job) -> Iterator[float]:
    """Moments of a Poisson process: buyers do not arrive in step."""
    chance = random.Random(job.seed)  # noqa: S311 - repeatable on purpose
    if job.kind is Kind.ONCE:  # such a process of which we know how many came
        yield from sorted(chance.uniform(0, job.seconds) for _ in job.requests)
        return
    at = 0.0
    while (at := at + chance.expovariate(job.per_second)) < job.seconds:
        yield at


def allow_many_files() -> None:
    """A thousand connections are more than the usual limit of open files leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    allow_many_files()
    orders = io.FileIO(sys.stdin.fileno(), closefd=False)
    job = Job.loads(orders.readline().decode())

    def begin() -> float:
        say("ready")
        _go, _, at = orders.readline().decode().partition(" ")
        if not at:
            raise SystemExit(0)  # the parent is gone
        time.sleep(max(0.0, float(at) - time.monotonic()))
        return float(at)

    try:
        tally = Client(job, orders).run(begin)
    except BadAnswer as error:
        sys.stderr.write(f"{job.kind} load on port {job.port} broke off: {error}\n")
        return 1
    say(tally.dumps())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
