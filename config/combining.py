"""Combining: requests that arrive while the database is busy with the ones before go to it together, as one.

A hot row can be written once per flush of the disk, however many threads queue for it. So they do not queue at the row:
in each lane the first thread to come leads. It takes what has piled up, runs it as one batch on its own connection,
hands the lead to the next thread in line and tells the others their answers. A thread that comes alone is a batch of
one and waits for nobody.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Overloaded(Exception):
    """Nobody got round to the request in time, or its batch broke off. It may still be carried out."""


class _Entry(Generic[Q, A]):
    """A request and the thread that waits for it, until it is answered or that thread has to lead."""

    __slots__ = ("answer", "following", "has_left", "is_chained", "is_taken", "leads", "request", "wake")

    def __init__(self, request: Q) -> None:
        self.request = request
        self.answer: A | Exception | None = None
        self.following: _Entry[Q, A] | None = None  # whom to wake next
        self.leads = self.is_taken = self.is_chained = self.has_left = False
        self.wake = threading.Lock()
        self.wake.acquire()


class Combiner(Generic[Q, A]):
    """`run(lane, requests)` answers a batch in order; an exception among the answers is raised to its own asker.

    An exception that `run` itself raises goes to all who were in the batch. Answers must not be None.
    """

    def __init__(
        self,
        run: Callable[[Hashable, Sequence[Q]], Sequence[A | Exception]],
        *,
        at_most: int,
        patience_seconds: float,
    ) -> None:
        self._run = run
        self._at_most = at_most
        self._patience = patience_seconds
        self._forget()
        os.register_at_fork(after_in_child=self._forget)  # whoever led or waited stayed with the parent

    def _forget(self) -> None:
        self._mutex = threading.Lock()
        self._lanes: dict[Hashable, deque[_Entry[Q, A]]] = {}  # a lane exists while somebody leads it

    def is_busy(self, lane: Hashable) -> bool:
        """Whether a batch of this lane is under way in this process."""
        return lane in self._lanes

    def ask(self, lane: Hashable, request: Q) -> A:
        """The answer to `request`. Raises what `run` raised, or Overloaded."""
        entry: _Entry[Q, A] = _Entry(request)
        with self._mutex:
            if (line := self._lanes.get(lane)) is None:
                self._lanes[lane] = deque()
                entry.leads = True
            else:
                line.append(entry)
        if not entry.leads:
            try:
                is_awake = entry.wake.acquire(timeout=self._patience)
            except BaseException:  # this thread is being ended: the line must go on
                self._abandon(lane, entry)
                raise
            if not is_awake and self._has_given_up(lane, entry):
                raise Overloaded
        if entry.leads:
            self._lead(lane, entry)
        elif entry.following is not None:
            entry.following.wake.release()
        if entry.answer is None:
            raise Overloaded
        if isinstance(entry.answer, Exception):
            raise entry.answer
        return entry.answer

    def _has_given_up(self, lane: Hashable, entry: _Entry[Q, A]) -> bool:
        """Leaves the line; False if the turn or the answer came at this very moment."""
        with self._mutex:
            if not entry.leads and not entry.is_chained:
                entry.has_left = True
                if not entry.is_taken:
                    self._lanes[lane].remove(entry)
            return entry.has_left and entry.answer is None

    def _abandon(self, lane: Hashable, entry: _Entry[Q, A]) -> None:
        self._has_given_up(lane, entry)
        if entry.leads:
            self._hand_over(lane, [entry])
        if entry.following is not None:
            entry.following.wake.release()

    def _lead(self, lane: Hashable, own: _Entry[Q, A]) -> None:
        batch = [own]
        with self._mutex:
            line = self._lanes[lane]
            while line and len(batch) < self._at_most:
                entry = line.popleft()
                entry.is_taken = True
                batch.append(entry)
        try:
            self._answer(lane, batch)
        finally:  # also when this thread is being ended: the line must go on
            self._hand_over(lane, batch)
            if own.following is not None:
                own.following.wake.release()

    def _answer(self, lane: Hashable, batch: list[_Entry[Q, A]]) -> None:
        try:
            answers = self._run(lane, [entry.request for entry in batch])
            for entry, answer in zip(batch, answers, strict=True):
                entry.answer = answer
        except Exception as error:  # each asker is told in its own thread
            for entry in batch:
                entry.answer = error

    def _hand_over(self, lane: Hashable, batch: list[_Entry[Q, A]]) -> None:
        """The lead goes to the next in line at once; the answered wake one another, so that not all want to run at once."""
        with self._mutex:
            line = self._lanes[lane]
            if line:
                following = line.popleft()
                following.leads = True
                following.wake.release()
            else:
                del self._lanes[lane]
            waker = batch[0]
            for entry in batch[1:]:
                if not entry.has_left:
                    entry.is_chained = True
                    waker.following = entry
                    waker = entry
