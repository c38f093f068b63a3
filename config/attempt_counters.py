"""Counts attempts in fixed windows: in one round trip to Redis for any number of attempts, or in this process's memory.

Both follow the same rules. Attempts are decided in their order. One that finds a counter full is refused and counted
nowhere; any other is counted in all its counters. A window begins with the first attempt that is counted in it.
"""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from redis.exceptions import NoScriptError

from config import redis_client


class Counter(NamedTuple):
    key: str
    at_most: int
    seconds: int


class Full(NamedTuple):
    """Which of an attempt's counters is full for longest, by its place among all, and for how much longer."""

    place: int
    milliseconds: int


# Each attempt names the places of its counters. The answers are in the order of the attempts; None: it was counted.
Attempts = Sequence[Sequence[int]]
Answers = list[Full | None]

# KEYS: the counters, each once. ARGV[1]: for each of them how many at most and the length of its window. ARGV[2]: for each
# attempt the places of its counters, ended by 0. Numbers in two texts, because packing arguments is what costs time.
# Answers two numbers for each attempt: the place of the full counter (0: it was counted) and the wait. Every counter is
# written once, at the end, and begins to exist together with its expiry: none can be left behind without one.
SCRIPT = """
local at_most, length, count, fresh, added = {}, {}, {}, {}, {}
for most, milliseconds in string.gmatch(ARGV[1], '(%d+) (%d+)') do
    at_most[#at_most + 1], length[#length + 1] = tonumber(most), tonumber(milliseconds)
end
for place = 1, #KEYS do
    local found = tonumber(redis.call('GET', KEYS[place]) or nil)
    count[place], fresh[place], added[place] = found or 0, found == nil, 0
end

local function wait_for(place)
    local wait = fresh[place] and -2 or redis.call('PTTL', KEYS[place])
    if wait == -1 then redis.call('PEXPIRE', KEYS[place], length[place]) end
    return wait < 0 and length[place] or wait
end

local answers, asked = {}, {}
for number in string.gmatch(ARGV[2], '%d+') do
    local place = tonumber(number)
    if place > 0 then
        asked[#asked + 1] = place
    else
        local full, longest = 0, -1
        for _, of_attempt in ipairs(asked) do
            if count[of_attempt] >= at_most[of_attempt] then
                local wait = wait_for(of_attempt)
                if wait > longest then full, longest = of_attempt, wait end
            end
        end
        if full == 0 then
            for _, of_attempt in ipairs(asked) do
                count[of_attempt], added[of_attempt] = count[of_attempt] + 1, added[of_attempt] + 1
            end
        end
        answers[#answers + 1], answers[#answers + 2] = full, longest
        asked = {}
    end
end

for place = 1, #KEYS do
    if added[place] > 0 then
        if fresh[place] then
            redis.call('SET', KEYS[place], added[place], 'PX', length[place])
        else
            redis.call('INCRBY', KEYS[place], added[place])
        end
    end
end
return answers
"""
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # the name that Redis itself gives a script


def in_redis(counters: Sequence[Counter], attempts: Attempts) -> Answers:
    """Raises one of redis_client.Unusable."""
    keys = [counter.key for counter in counters]
    limits = " ".join(f"{counter.at_most} {counter.seconds * 1_000}" for counter in counters)
    asked = " ".join(str(place + 1) for places in attempts for place in (*places, -1))
    redis = redis_client.client()
    try:
        answers = redis.evalsha(_SHA, len(keys), *keys, limits, asked)
    except NoScriptError:  # Redis started since; EVAL leaves the script there
        answers = redis.eval(SCRIPT, len(keys), *keys, limits, asked)
    return [Full(place - 1, wait) if place else None for place, wait in zip(answers[::2], answers[1::2], strict=True)]


class InMemory:
    """For one process. Holds `most` counters; beyond that it forgets those whose windows began first."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        self._mutex = threading.Lock()
        self._counted: dict[str, tuple[int, float]] = {}  # how many, and when the window ends

    def take(self, counters: Sequence[Counter], attempts: Attempts) -> Answers:
        with self._mutex:
            now = time.monotonic()
            answers = [self._decide(counters, places, now) for places in attempts]
            if len(self._counted) > self._most:
                self._make_room(now)
            return answers

    def _decide(self, counters: Sequence[Counter], places: Sequence[int], now: float) -> Full | None:
        found = [self._found(counters[place], now) for place in places]
        full = [
            (ends_at, place)
            for place, (count, ends_at) in zip(places, found, strict=True)
            if count >= counters[place].at_most
        ]
        if full:
            ends_at, place = max(full)
            return Full(place, round((ends_at - now) * 1_000))
        for place, (count, ends_at) in zip(places, found, strict=True):
            self._counted[counters[place].key] = (count + 1, ends_at)
        return None

    def _found(self, counter: Counter, now: float) -> tuple[int, float]:
        count, ends_at = self._counted.get(counter.key, (0, 0.0))
        if ends_at > now:
            return count, ends_at
        self._counted.pop(counter.key, None)  # what begins anew goes to the end of the line
        return 0, now + counter.seconds

    def _make_room(self, now: float) -> None:
        self._counted = {key: entry for key, entry in self._counted.items() if entry[1] > now}
        for key in list(self._counted)[: len(self._counted) - self._most * 9 // 10]:
            del self._counted[key]
