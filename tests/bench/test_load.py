"""The load generator against a server that knows what it was asked."""

import math
import random
import socket
import statistics
import time

import pytest

from deploy.bench import load, wire
from deploy.bench.jobs import Job, Kind, Tally
from tests.bench.servers import serving

GET = wire.request("GET", "/one/", host="127.0.0.1")
OTHER = wire.request("GET", "/two/", host="127.0.0.1")


def closed(port: int, *requests: bytes, **more) -> Job:
    return Job(Kind.CLOSED, port, requests or (GET,), **{"connections": 4, "seconds": 0.3, **more})


def test_percentiles_are_values_that_occurred():
    values = [float(number) for number in range(1, 101)]
    random.Random(1).shuffle(values)
    assert [load.percentile(values, percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert load.percentile([7.0], 99) == 7.0
    assert math.isnan(load.percentile([], 50))


def test_a_closed_loop_counts_every_answer_once():
    with serving(lambda number: 200 if number % 3 else 409) as server:
        outcome = load.run(closed(server.port))
    asked = len(server.asked)
    assert asked > 4
    assert outcome.tally.statuses == {200: asked - math.ceil(asked / 3), 409: math.ceil(asked / 3)}
    assert len(outcome.tally.latencies) == len(outcome.tally.times) == asked
    assert outcome.unexpected(200, 409) == 0
    assert outcome.unexpected(200) == math.ceil(asked / 3)
    assert 0 < outcome.per_second <= asked / 0.3
    assert 0 < outcome.p_ms(50) <= outcome.p_ms(99) <= outcome.p_ms(100)


def test_requests_are_sent_in_turn_and_each_key_once():
    keyed = wire.request("POST", "/k/", host="h", body=b"{}", headers={"Idempotency-Key": wire.KEY_PLACE.decode()})
    with serving(lambda number: 201) as server:
        load.run(closed(server.port, GET, OTHER, keyed), processes=2)
    paths = [path for _, path, _, _ in server.asked]
    keys = [key for _, path, _, key in server.asked if path == "/k/"]
    assert abs(paths.count("/one/") - paths.count("/two/")) <= 2  # one per process
    assert len(set(keys)) == len(keys) > 0
    assert all(16 <= len(key) <= 255 for key in keys if key)
    assert {body for _, path, body, _ in server.asked if path == "/k/"} == {b"{}"}


def test_an_answer_without_body_is_understood():
    with serving(lambda number: 304) as server:
        outcome = load.run(closed(server.port))
    assert set(outcome.tally.statuses) == {304}
    assert not outcome.tally.broken


def test_connections_that_break_are_counted_and_replaced():
    with serving(lambda number: 0 if number % 5 == 4 else 200) as server:
        outcome = load.run(closed(server.port, connections=2))
    assert outcome.tally.broken["hung up"] == len(server.asked) // 5 > 0
    assert outcome.tally.statuses[200] == len(server.asked) - outcome.tally.broken.total()
    assert "broken (hung up)" in outcome.answers()


def test_an_open_loop_asks_as_often_as_told():
    with serving(lambda number: 200) as server:
        job = Job(Kind.OPEN, server.port, (GET,), connections=1, seconds=1.0, per_second=50.0)
        outcome = load.run(job, processes=1)
        again = load.run(job, processes=1)
    assert outcome.tally.statuses[200] == again.tally.statuses[200]  # the same arrivals each time
    assert 20 < outcome.tally.statuses[200] < 100
    assert len(server.asked) == 2 * outcome.tally.statuses[200]


def test_in_an_open_loop_the_time_spent_waiting_for_a_connection_counts():
    def slow(number: int) -> int:
        time.sleep(0.05)
        return 200

    with serving(slow) as server:
        job = Job(Kind.OPEN, server.port, (GET,), connections=1, seconds=0.5, per_second=60.0)
        outcome = load.run(job, processes=1)
    # One at a time and 50 ms each: the later ones have waited for all those before them.
    assert outcome.tally.latencies[-1] > 2 * statistics.median(outcome.tally.latencies[:2])


def test_what_shall_arrive_once_arrives_once_and_spread_over_the_time():
    requests = tuple(wire.request("POST", f"/{number}/", host="h", body=b"{}") for number in range(41))
    with serving(lambda number: 200) as server:
        outcome = load.run(Job(Kind.ONCE, server.port, requests, connections=4, seconds=1.0), processes=3)
    assert sorted(path for _, path, _, _ in server.asked) == sorted(f"/{number}/" for number in range(41))
    assert outcome.tally.statuses == {200: 41}
    arrived = [at - outcome.began for at in outcome.tally.times]
    assert any(at < 0.5 for at in arrived)
    assert any(at > 0.5 for at in arrived)


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_burst_asks_once_over_each_connection(is_warm: bool):
    with serving(lambda number: 201 if number < 10 else 409) as server:
        outcome = load.run(Job(Kind.BURST, server.port, (GET,), connections=61, is_warm=is_warm))
    assert outcome.tally.statuses == {201: 10, 409: 51}
    assert len(server.asked) == 61


def test_hanging_up_after_the_answer_is_no_failure_where_nothing_more_was_asked():
    with serving(lambda number: 200) as server:
        server.hangs_up_afterwards = True
        burst = load.run(Job(Kind.BURST, server.port, (GET,), connections=20))
        few = Job(Kind.OPEN, server.port, (GET,), connections=20, seconds=1.0, per_second=10.0)
        by_the_clock = load.run(few, processes=1)
    assert burst.tally.statuses == {200: 20}
    assert by_the_clock.tally.statuses[200] == len(server.asked) - 20 > 0
    assert not burst.tally.broken
    assert not by_the_clock.tally.broken


def test_a_run_can_be_stopped_and_says_how_long_it_sent():
    with serving(lambda number: 200) as server, load.Run(closed(server.port, seconds=60.0)) as running:
        while not server.asked:
            time.sleep(0.01)
        outcome = running.stop()
    assert outcome.tally.statuses[200] == len(server.asked) > 0
    assert 0 < outcome.seconds < 60
    until = outcome.began + outcome.seconds
    assert len(outcome.between(outcome.began, until + 60).tally.times) == len(server.asked)
    assert not outcome.between(until + 60, until + 61).tally.times


def test_no_server_is_a_failure_with_a_reason():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(load.LoadFailed, match="closed load"):
        load.run(closed(port, connections=1))


def test_what_a_process_says_arrives_whole():
    job = Job(Kind.OPEN, 1, (b"\r\n\xff{key}",), 2, seconds=0.5, per_second=3.0)
    assert Job.loads(job.dumps()) == job
    tally = Tally()
    tally.note(201, 5.0, 0.25)
    tally.broken["hung up"] += 1
    assert Tally.loads(tally.dumps()) == tally


def test_shares_add_up():
    parts = load.shares(Job(Kind.OPEN, 1, (GET,), connections=5, per_second=9.0), 3)
    assert [part.connections for part in parts] == [2, 2, 1]
    assert sum(part.per_second for part in parts) == 9.0
    assert len({part.seed for part in parts}) == 3
