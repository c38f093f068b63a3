"""Requests that share a batch, with real threads: who leads, who is told what, and what happens when things break."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest

from config.combining import Combiner, Overloaded

LANE = "lane"
PATIENCE_SECONDS = 30.0


def until(condition: Callable[[], Any]) -> None:
    """Looks again and again; fails when it never comes true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


class Asker(threading.Thread):
    """One request in a thread of its own; `result` is the answer, or whatever was raised."""

    def __init__(self, combiner: Combiner, request: Any, lane: Hashable = LANE) -> None:
        super().__init__(daemon=True)
        self.combiner, self.request, self.lane = combiner, request, lane
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.combiner.ask(self.lane, self.request)
        except BaseException as error:
            self.result = error

    def told(self) -> Any:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), "an asker hangs"
        return self.result


class Desk:
    """A combiner whose batches are written down; one that holds a request named in `pauses` waits to be let go.

    Answers a request with its text in capitals; `raises` maps a request to what its whole batch runs into, `answers`
    to what is answered instead.
    """

    def __init__(self, *, kind: type[Combiner] = Combiner, at_most: int = 64, patience_seconds: float = 30.0) -> None:
        self.batches: list[list[str]] = []
        self.pauses: dict[str, threading.Event] = {}
        self.raises: dict[str, BaseException] = {}
        self.answers: dict[str, Any] = {}
        self.combiner: Any = kind(self._run, at_most=at_most, patience_seconds=patience_seconds)

    def _run(self, _lane: Hashable, requests: Sequence[str]) -> list[Any]:
        self.batches.append(list(requests))
        for request in requests:
            if request in self.pauses:
                assert self.pauses[request].wait(PATIENCE_SECONDS)
        for request in requests:
            if request in self.raises:
                raise self.raises[request]
        return [self.answers.get(request, request.upper()) for request in requests]

    def ask(self, request: str, lane: Hashable = LANE) -> Any:
        return self.combiner.ask(lane, request)

    def waiting(self, lane: Hashable = LANE) -> int:
        return len(self.combiner._lanes.get(lane, ()))

    def busy_with(self, request: str, lane: Hashable = LANE) -> Asker:
        """A batch with `request` is under way until `go(request)`."""
        self.pauses[request] = threading.Event()
        asker = Asker(self.combiner, request, lane)
        until(lambda: any(request in batch for batch in self.batches))
        return asker

    def in_line(self, *requests: str, lane: Hashable = LANE) -> list[Asker]:
        """They come one after the other, while the lane is busy."""
        askers = []
        for request in requests:
            before = self.waiting(lane)
            askers.append(Asker(self.combiner, request, lane))
            until(lambda before=before: self.waiting(lane) == before + 1)
        return askers

    def go(self, request: str) -> None:
        self.pauses[request].set()

    def is_at_rest(self) -> bool:
        return not self.combiner._lanes


@pytest.mark.row("H1")
def test_who_comes_alone_is_a_batch_of_one():
    desk = Desk()
    assert [desk.ask("a"), desk.ask("b")] == ["A", "B"]
    assert desk.batches == [["a"], ["b"]]
    assert desk.is_at_rest()


@pytest.mark.row("H1")
def test_who_comes_while_a_batch_is_under_way_shares_the_next_in_order_of_arrival():
    desk = Desk()
    first = desk.busy_with("first")
    assert desk.combiner.is_busy(LANE)
    others = desk.in_line(*"edcba")
    desk.go("first")
    assert [asker.told() for asker in [first, *others]] == ["FIRST", *"EDCBA"]
    assert desk.batches == [["first"], [*"edcba"]]
    assert desk.is_at_rest()
    assert not desk.combiner.is_busy(LANE)


@pytest.mark.row("H1")
def test_a_batch_is_never_larger_than_it_may_be_and_nobody_is_overtaken():
    desk = Desk(at_most=3)
    first = desk.busy_with("first")
    others = desk.in_line(*"abcdefg")
    desk.go("first")
    assert [asker.told() for asker in [first, *others]] == ["FIRST", *"ABCDEFG"]
    assert desk.batches == [["first"], [*"abc"], [*"def"], ["g"]]


@pytest.mark.row("H1")
def test_lanes_do_not_wait_for_each_other():
    desk = Desk()
    first = desk.busy_with("slow", lane="one")
    assert desk.ask("quick", lane="other") == "QUICK"
    assert desk.combiner.is_busy("one")
    assert not desk.combiner.is_busy("other")
    desk.go("slow")
    assert first.told() == "SLOW"
    assert desk.is_at_rest()


@pytest.mark.row("H1")
def test_what_a_batch_runs_into_reaches_all_of_it_and_nobody_else():
    """The leader and its followers are told; the lead moves on to who came after them."""
    desk = Desk(at_most=3)
    desk.raises["b"] = LookupError("the database is away")
    first = desk.busy_with("first")
    others = desk.in_line(*"abcde")
    desk.go("first")
    assert first.told() == "FIRST"
    assert [asker.told() for asker in others[:3]] == [desk.raises["b"]] * 3
    assert [asker.told() for asker in others[3:]] == ["D", "E"]
    assert desk.batches == [["first"], [*"abc"], [*"de"]]
    assert desk.is_at_rest()


@pytest.mark.row("H1")
@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_leader_that_is_ended_leaves_nobody_hanging(ending):
    """Its followers do not know what became of their requests: Overloaded. The line goes on without it."""
    desk = Desk(at_most=3)
    desk.raises["a"] = ending()
    first = desk.busy_with("first")
    leader, *followers = desk.in_line(*"abcde")
    desk.go("first")
    assert first.told() == "FIRST"
    assert isinstance(leader.told(), ending)
    assert [type(asker.told()) for asker in followers[:2]] == [Overloaded] * 2
    assert [asker.told() for asker in followers[2:]] == ["D", "E"]
    assert desk.is_at_rest()
    assert desk.ask("later") == "LATER"


@pytest.mark.row("H1")
def test_an_exception_among_the_answers_is_raised_to_its_own_asker():
    desk = Desk()
    desk.answers["b"] = ValueError("only b")
    first = desk.busy_with("first")
    others = desk.in_line(*"abc")
    desk.go("first")
    first.told()
    assert [asker.told() for asker in others] == ["A", desk.answers["b"], "C"]


@pytest.mark.row("H1")
def test_too_few_answers_are_a_mistake_that_everybody_hears_of():
    """Nobody is given the answer of somebody else."""
    combiner: Combiner[str, str] = Combiner(lambda _lane, _requests: [], at_most=4, patience_seconds=5)
    with pytest.raises(ValueError, match="shorter"):
        combiner.ask(LANE, "a")
    assert not combiner._lanes


@pytest.mark.row("H1")
def test_who_has_waited_long_enough_leaves_the_line_and_is_not_carried_out():
    desk = Desk(patience_seconds=0.02)
    first = desk.busy_with("first")
    others = [Asker(desk.combiner, request) for request in "abc"]
    assert [type(asker.told()) for asker in others] == [Overloaded] * 3
    assert desk.waiting() == 0
    desk.go("first")
    assert first.told() == "FIRST"
    assert desk.batches == [["first"]]
    assert desk.ask("next") == "NEXT"


@pytest.mark.row("H1")
def test_an_answer_that_comes_too_late_harms_nobody():
    """Taken into a batch that takes longer than one follower has patience: that one is gone, the leader is answered."""
    desk = Desk(kind=_Timed)
    first = desk.busy_with("first")
    leader, impatient = desk.in_line("a", "b")
    desk.pauses["a"] = threading.Event()
    desk.go("first")
    assert first.told() == "FIRST"
    until(lambda: len(desk.batches) == 2)
    desk.combiner.over.add("b")
    assert isinstance(impatient.told(), Overloaded)
    desk.go("a")
    assert leader.told() == "A"
    assert desk.batches == [["first"], ["a", "b"]]
    assert desk.ask("next") == "NEXT"
    assert desk.is_at_rest()


class _Timed(Combiner):
    """Patience ends when the test says so, not by the clock: for the requests in `over`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.over: set[Any] = set()
        self._patience = 0.001

    def _has_given_up(self, lane: Hashable, entry: Any) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while entry.request not in self.over:
            if entry.wake.acquire(timeout=0.001):
                break
            assert time.monotonic() < deadline, "neither woken nor out of patience"
        return super()._has_given_up(lane, entry)


@pytest.mark.row("H1")
@pytest.mark.parametrize("impatient", ["b", "c", "d", "bc", "cd", "bcd"])
def test_who_leaves_a_batch_under_way_keeps_nobody_else_from_being_woken(impatient):
    """The answered wake one another: whoever left is passed over."""
    desk = Desk(kind=_Timed)
    first = desk.busy_with("first")
    askers = desk.in_line(*"abcd")
    desk.pauses["a"] = threading.Event()
    desk.go("first")
    until(lambda: len(desk.batches) == 2)
    desk.combiner.over.update(impatient)
    for asker in askers:
        if asker.request in impatient:
            assert isinstance(asker.told(), Overloaded)
    desk.go("a")
    told = [first.told(), *(asker.told() for asker in askers if asker.request not in impatient)]
    assert told == ["FIRST", *(request.upper() for request in "abcd" if request not in impatient)]
    assert desk.is_at_rest()


class _AtThatMoment(Combiner):
    """A follower whose time is up looks whether it may give up only after its turn or its answer has come."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.giving_up: list[Any] = []

    def _has_given_up(self, lane: Hashable, entry: Any) -> bool:
        self.giving_up.append(entry.request)
        until(lambda: entry.leads or entry.answer is not None)
        return super()._has_given_up(lane, entry)


@pytest.mark.row("H1")
def test_who_is_handed_the_lead_at_the_moment_of_giving_up_leads():
    """Otherwise the lane would belong to somebody who left, for ever."""
    desk = Desk(kind=_AtThatMoment, patience_seconds=0.01)
    first = desk.busy_with("first")
    (follower,) = desk.in_line("a")
    until(lambda: desk.combiner.giving_up == ["a"])
    desk.go("first")
    assert (first.told(), follower.told()) == ("FIRST", "A")
    assert desk.is_at_rest()
    assert desk.ask("next") == "NEXT"


@pytest.mark.row("H1")
def test_who_is_answered_at_the_moment_of_giving_up_has_its_answer():
    """One of two who are giving up is handed the lead, the other one is in its batch."""
    desk = Desk(kind=_AtThatMoment, patience_seconds=0.01)
    first = desk.busy_with("first")
    askers = desk.in_line("a", "b")
    until(lambda: sorted(desk.combiner.giving_up) == ["a", "b"])
    desk.go("first")
    assert [asker.told() for asker in [first, *askers]] == ["FIRST", "A", "B"]
    assert desk.batches == [["first"], ["a", "b"]]
    assert desk.is_at_rest()


def _ask_in_a_fork(desk: Desk) -> int:
    """A forked child asks; 0 if it is answered, 1 if it is told Overloaded."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if desk.ask("child") == "CHILD" else 2)
        except Overloaded:
            os._exit(1)
        finally:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.row("H1")
def test_a_forked_child_can_ask_though_the_parent_was_in_the_middle_of_it():
    """Whoever led, waited or held the mutex stayed with the parent; the parent's own line is as it was."""
    desk = Desk(patience_seconds=5)
    first = desk.busy_with("first")
    (follower,) = desk.in_line("a")
    with desk.combiner._mutex:
        assert _ask_in_a_fork(desk) == 0
    desk.go("first")
    assert (first.told(), follower.told()) == ("FIRST", "A")


@pytest.mark.row("H1")
def test_a_forked_child_that_remembered_the_parents_lines_would_wait_for_nobody(monkeypatch):
    """The guard off: nothing is forgotten in the child."""
    monkeypatch.setattr(os, "register_at_fork", lambda **_hooks: None)
    desk = Desk(patience_seconds=0.2)
    first = desk.busy_with("first")
    assert _ask_in_a_fork(desk) == 1
    desk.go("first")
    first.told()


class BatchBroke(Exception):
    """Names all who were in it."""


class OwnMistake(Exception):
    """Names its asker."""


class Soak:
    """Batches that fail at random, by a seed; what each request came to is written down."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.chance = random.Random(seed)
        self.carried_out: list[Any] = []
        self.running: set[Hashable] = set()
        self.combiner: Combiner = Combiner(self._run, **options)

    def _run(self, lane: Hashable, requests: Sequence[Any]) -> list[Any]:
        assert lane not in self.running, "two batches of one lane at once"
        self.running.add(lane)
        try:
            self.carried_out += requests
            fate = self.chance.random()
            time.sleep(fate / 2_000)  # batches form while this one is "in the database"
            if fate < 0.1:
                raise BatchBroke(*requests)
            if fate < 0.15:
                raise SystemExit(*requests)
            return [OwnMistake(request) if request[2] % 7 == 0 else (lane, request) for request in requests]
        finally:
            self.running.remove(lane)

    def is_right(self, lane: Hashable, request: Any, result: Any) -> bool:
        match result:
            case BatchBroke() | SystemExit():
                return request in result.args
            case OwnMistake():
                return result.args == (request,) and request[2] % 7 == 0
            case Overloaded():
                return True
        return result == (lane, request) and request[2] % 7 != 0

    def run(self, *, threads: int, each: int, lanes: int) -> list[tuple[Any, Any]]:
        results: list[tuple[Any, Any]] = []

        def asking(thread: int) -> None:
            for number in range(each):
                lane = (thread + number) % lanes
                request = (lane, thread, number)
                try:
                    results.append((request, self.combiner.ask(lane, request)))
                except BaseException as error:
                    results.append((request, error))

        askers = [threading.Thread(target=asking, args=[thread], daemon=True) for thread in range(threads)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(PATIENCE_SECONDS * 2)
            assert not asker.is_alive(), "an asker hangs"
        return results


@pytest.mark.row("H1", "HC-A5")
@pytest.mark.parametrize("seed", [1, 2])
def test_hundreds_of_threads_each_get_exactly_their_own_answer(seed):
    """HC-A5: three hundred threads on three lanes; batches break, leaders are ended: nobody is mixed up or forgotten."""
    soak = Soak(seed, at_most=16, patience_seconds=PATIENCE_SECONDS)
    results = soak.run(threads=300, each=10, lanes=3)
    assert len(results) == 3_000
    assert [pair for pair in results if not soak.is_right(pair[0][0], *pair)] == []
    assert sorted(soak.carried_out) == sorted(request for request, _result in results)
    assert {type(result) for _request, result in results} >= {tuple, BatchBroke, OwnMistake}
    assert not soak.combiner._lanes


@pytest.mark.row("H1", "HC-A5")
def test_hundreds_of_impatient_threads_leave_a_line_that_works():
    """Who gave up may or may not have been carried out, but never twice, and nobody else is given its answer."""
    soak = Soak(3, at_most=8, patience_seconds=0.002)
    results = soak.run(threads=200, each=10, lanes=2)
    assert [pair for pair in results if not soak.is_right(pair[0][0], *pair)] == []
    assert len(soak.carried_out) == len(set(soak.carried_out))
    answered = {request for request, result in results if not isinstance(result, Overloaded)}
    assert answered <= set(soak.carried_out)
    assert any(isinstance(result, Overloaded) for _request, result in results)
    assert not soak.combiner._lanes


@pytest.mark.row("H1")
def test_a_follower_that_is_ended_while_it_waits_leaves_the_line():
    class Ended(BaseException):
        pass

    def end(*_unused: Any) -> None:
        raise Ended

    busy, go = threading.Event(), threading.Event()

    def run(_lane: Any, requests: Any) -> Any:
        if list(requests) == ["first"]:
            busy.set()
            go.wait(10)
        return requests

    combiner: Any = Combiner(run, at_most=4, patience_seconds=10.0)
    first = threading.Thread(target=combiner.ask, args=("lane", "first"))
    first.start()
    busy.wait(10)
    before = signal.signal(signal.SIGUSR2, end)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        with pytest.raises(Ended):
            combiner.ask("lane", "follower")
    finally:
        signal.signal(signal.SIGUSR2, before)
    go.set()
    first.join(10)
    assert combiner.ask("lane", "next") == "next"
