"""Fixed windows, counted in the real Valkey, and by each process for itself while that is of no use (H13)."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from config import rate_limits, redis_client
from config.attempt_counters import Counter, Full, InMemory, in_redis
from config.dates import wait_in_words
from config.limit_windows import Window, windows
from config.proxies import client_address, one_of_many
from config.rate_limits import Attempt, RateLimited, attempt_of, take, take_many
from deploy.local.plan import Stripe, make_plan
from deploy.local.services import EmbeddedValkey
from deploy.local.var_folder import VarFolder
from tests.config.test_checks import check
from tests.races import at_once, of_type
from tests.redis_faults import forget, nobody, silent

pytestmark = pytest.mark.row("H13")


@pytest.fixture(autouse=True)
def _limits(settings) -> Iterator[None]:
    """Holds: ten a day for a buyer, so that no test depends on when its minute ends; nothing else."""
    settings.RATE_LIMITS = True
    settings.SECRET_KEY = uuid.uuid4().hex  # counters of this test's own
    settings.HOLD_LIMIT_PER_BUYER = "10/d"
    settings.HOLD_LIMIT_PER_ADDRESS = settings.HOLD_LIMIT_OVERALL = "off"
    forget()
    yield
    forget()


@pytest.fixture
def own_redis(settings, tmp_path) -> Iterator[EmbeddedValkey]:
    """A Valkey that a test may ill-treat."""
    service = EmbeddedValkey(tmp_path / "valkey")
    service.start()
    settings.REDIS_URL = service.url
    yield service
    if service.child is not None:
        service.stop()


def meta(address: str = "192.0.2.1", *, cookie: str = "", forwarded: str = "") -> dict[str, str]:
    found = {"REMOTE_ADDR": address}
    found |= {"HTTP_COOKIE": f"theme=dark; buyer={cookie}; a=b"} if cookie else {}
    return found | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})


def hold(address: str = "192.0.2.1", **more: str) -> RateLimited | None:
    """The refusal; None when it may go on."""
    try:
        take("hold", meta=meta(address, **more))
    except RateLimited as refusal:
        return refusal
    return None


def granted(times: int, address: str = "192.0.2.1", **more: str) -> int:
    return [hold(address, **more) for _ in range(times)].count(None)


def browser(number: int) -> str:
    return f"{number:022d}"


# --- Windows ----------------------------------------------------------------------------------------------------------


def test_the_eleventh_within_a_minute_is_refused_with_the_time_to_wait(settings):
    settings.HOLD_LIMIT_PER_BUYER = "10/m"
    began = time.monotonic()
    assert granted(10) == 10
    refusal = hold()
    assert refusal is not None
    assert (refusal.limit, refusal.who, refusal.is_everybody) == ("hold_per_buyer", "192.0.2.1", False)
    assert 60 - (time.monotonic() - began) <= refusal.retry_after <= 60


def test_a_window_ends(settings):
    settings.HOLD_LIMIT_PER_BUYER = "1/s"
    assert hold() is None
    deadline = time.monotonic() + 10
    while hold() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_refused_attempts_neither_lengthen_the_window_nor_count():
    assert granted(10) == 10
    (key,) = redis_client.client().keys(f"counterfoil:*:{rate_limits._digest('192.0.2.1', _secret())}")
    ends_in = redis_client.client().pttl(key)
    assert granted(20) == 0
    assert redis_client.client().pttl(key) <= ends_in
    assert redis_client.client().get(key) == b"10"


def _secret() -> str:
    return rate_limits.settings.SECRET_KEY


def test_what_one_limit_refuses_uses_up_no_other(settings):
    """The address is full; the buyer's ten are still there once it is not."""
    settings.HOLD_LIMIT_PER_ADDRESS = "3/d"
    assert granted(20, cookie=browser(1)) == 3
    settings.HOLD_LIMIT_PER_ADDRESS = "off"
    assert granted(20, cookie=browser(1)) == 7


def test_several_windows_hold_at_once_and_the_longest_wait_is_told(settings):
    settings.HOLD_LIMIT_PER_BUYER = "100/m,3/h,5/d"
    assert granted(5) == 3
    refusal = hold()
    assert refusal is not None
    assert 60 < refusal.retry_after <= 3600


def test_burst_rate_and_daily_quota_of_all_together(settings):
    settings.HOLD_LIMIT_PER_BUYER, settings.HOLD_LIMIT_OVERALL = "off", "1000/s,1000/m,4/d"
    refusals = [hold(f"192.0.2.{number}") for number in range(6)]
    assert refusals[:4] == [None] * 4
    for refusal in refusals[4:]:
        assert refusal is not None
        assert (refusal.limit, refusal.who, refusal.is_everybody) == ("hold_overall", "all", True)
        assert refusal.retry_after > 3600


def test_a_counter_that_somebody_left_without_an_end_gets_one():
    assert granted(11) == 10
    redis = redis_client.client()
    (key,) = redis.keys(f"counterfoil:*:{rate_limits._digest('192.0.2.1', _secret())}")
    redis.persist(key)
    refusal = hold()
    assert refusal is not None
    assert refusal.retry_after == 86_400
    assert redis.ttl(key) > 0


def test_switched_off_nothing_is_counted(settings):
    settings.RATE_LIMITS = False
    assert granted(50) == 50
    assert take_many([Attempt("hold", "192.0.2.1")] * 50) == [None] * 50
    settings.RATE_LIMITS = True
    assert granted(50) == 10


# --- Notation ---------------------------------------------------------------------------------------------------------


def test_how_limits_are_written():
    assert windows("10/m") == (Window(10, 60),)
    assert windows(" 200/s, 5000/m ,100000/d") == (Window(200, 1), Window(5000, 60), Window(100_000, 86_400))
    assert windows("off") == windows("") == ()


@pytest.mark.parametrize("text", ["10", "10/", "/m", "0/m", "-1/m", "10/w", "10/m,", "10/m 5/h", "10/m,20/m", "ten/m"])
def test_what_is_no_limit(text):
    with pytest.raises(ValueError, match="limit"):
        windows(text)


# --- Who --------------------------------------------------------------------------------------------------------------


def test_two_browsers_behind_one_address_are_two_buyers():
    assert granted(12, cookie=browser(1)) == 10
    assert granted(12, cookie=browser(2)) == 10
    assert granted(12) == 10, "who brings no cookie is the address"
    refusal = hold(cookie=browser(1))
    assert refusal is not None
    assert refusal.who not in {browser(1), "192.0.2.1"}, "a cookie opens the buyer's holds: it is told to nobody"


def test_new_cookies_all_the_time_do_not_help_beyond_the_address(settings):
    settings.HOLD_LIMIT_PER_ADDRESS = "60/d"
    refusals = [hold(cookie=browser(number)) for number in range(70)]
    assert refusals.count(None) == 60
    assert {(refusal.limit, refusal.who) for refusal in refusals if refusal} == {("hold_per_address", "192.0.2.1")}


@pytest.mark.parametrize("cookie", ["short", "x" * 23, "ä" * 22, "with spaces and such.."])
def test_a_cookie_that_is_none_of_ours_counts_as_none(cookie):
    assert attempt_of("hold", meta(cookie=cookie)) == attempt_of("hold", meta())


def test_nothing_personal_stands_in_redis():
    hold("198.51.100.77", cookie=browser(7))
    hold("198.51.100.77")
    keys = b" ".join(redis_client.client().keys("counterfoil:*"))
    assert b"198.51.100" not in keys
    assert browser(7).encode() not in keys


def test_a_forged_forwarded_header_is_ignored(settings):
    settings.TRUSTED_PROXIES = []
    assert sum(granted(1, forwarded=f"203.0.113.{number}") for number in range(15)) == 10


def test_behind_a_proxy_it_is_the_last_stranger_who_counts(settings):
    """What stands further left may have been written by the stranger."""
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    made_up = [hold("10.0.0.1", forwarded=f"198.51.100.{number}, 203.0.113.9, 10.0.0.2") for number in range(15)]
    assert made_up.count(None) == 10
    assert granted(12, "10.0.0.1", forwarded="203.0.113.10") == 10


@pytest.mark.parametrize(
    ("sender", "forwarded", "address"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::7]:4711, 10.0.0.2", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.1", "203.0.113.9", "203.0.113.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_whom_a_request_comes_from(settings, sender, forwarded, address):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    assert client_address({"REMOTE_ADDR": sender, "HTTP_X_FORWARDED_FOR": forwarded}) == address


def test_an_ipv6_network_of_64_bits_counts_as_one_address():
    assert one_of_many("2001:db8:1:2:aaaa::1") == one_of_many("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert one_of_many("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert one_of_many("::ffff:192.0.2.1") == one_of_many("192.0.2.1") == "192.0.2.1"
    assert sum(granted(1, f"2001:db8:1:2::{number:x}") for number in range(15)) == 10


# --- Many at once -----------------------------------------------------------------------------------------------------


def test_twenty_threads_at_once_let_exactly_ten_through(settings):
    settings.HOLD_LIMIT_PER_ADDRESS = "12/d"
    results = at_once([partial(take, "hold", meta=meta())] * 20)
    assert len(of_type(results, RateLimited)) == 10
    assert results.count(None) == 10


def test_an_empty_batch():
    assert take_many([]) == []


attempts = st.lists(
    st.builds(
        Attempt,
        st.sampled_from(["hold", "checkout", "sync"]),
        st.sampled_from(["192.0.2.1", "192.0.2.2"]),
        st.sampled_from(["", browser(1), browser(2)]),
    ),
    max_size=40,
)


@pytest.fixture
def _tight(settings):
    settings.HOLD_LIMIT_PER_BUYER, settings.HOLD_LIMIT_PER_ADDRESS = "2/h,3/d", "4/d"
    settings.HOLD_LIMIT_OVERALL, settings.CHECKOUT_LIMIT_PER_BUYER = "6/d", "1/d"
    settings.CHECKOUT_LIMIT_PER_ADDRESS, settings.SYNC_LIMIT_PER_ADDRESS = "2/d", "off"


@pytest.mark.usefixtures("_tight")
@hypothesis_settings(max_examples=60, deadline=None)
@given(asked=attempts)
def test_a_batch_is_decided_as_if_its_attempts_came_one_by_one(asked):
    """In Redis and in memory alike."""

    def decide(*, together: bool, without_redis: bool = False) -> list[bool]:
        rate_limits.settings.SECRET_KEY = uuid.uuid4().hex
        forget()
        if without_redis:
            rate_limits._reach.failed(ConnectionError())
        batches = [asked] if together else [[attempt] for attempt in asked]
        answers = [answer for batch in batches for answer in take_many(batch)]
        return [answer is None for answer in answers]

    expected = decide(together=False)
    assert decide(together=True) == expected
    assert decide(together=True, without_redis=True) == expected
    assert decide(together=False, without_redis=True) == expected


def test_a_process_forked_off_goes_on_counting():
    assert granted(4) == 4
    child = os.fork()
    if child == 0:
        os._exit(granted(3))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert granted(10) == 3


# --- Redis is of no use -----------------------------------------------------------------------------------------------


def test_redis_refuses_connections_and_each_process_counts(settings, caplog):
    settings.REDIS_URL = nobody()
    assert granted(15) == 10
    assert [record.message.count("redis gone") for record in caplog.records] == [1], "said once"
    forget()  # as another process would
    assert granted(15) == 10


@pytest.mark.parametrize("address", ["sentinel://127.0.0.1:1/0", "redis://127.0.0.1:port/0"])
def test_an_address_that_only_the_broker_understands(settings, address):
    settings.REDIS_URL = address
    assert granted(15) == 10


def test_redis_hangs_and_costs_one_wait_for_all(settings):
    with silent() as (address, calls):
        settings.REDIS_URL = address
        began = time.monotonic()
        assert granted(50) == 10
        took = time.monotonic() - began
    assert len(calls) == 1, "the next try comes seconds later"
    assert took < 10 * redis_client.TIMEOUT_SECONDS


def test_redis_hangs_under_many_threads(settings):
    with silent() as (address, _calls):
        settings.REDIS_URL = address
        began = time.monotonic()
        results = at_once([partial(take, "hold", meta=meta())] * 40)
        took = time.monotonic() - began
    assert results.count(None) == 10
    assert len(of_type(results, RateLimited)) == 30
    assert took < 20 * redis_client.TIMEOUT_SECONDS, "they wait side by side, not one after the other"


def test_one_thread_tries_again_while_the_others_do_without(settings):
    reach = redis_client.Reach("a test", without="nothing")
    reach.failed(ConnectionError())
    assert at_once([reach.is_worth_a_try] * 20) == [False] * 20
    reach._next_try = 0.0  # five seconds later
    assert sorted(at_once([reach.is_worth_a_try] * 20)) == [False] * 19 + [True]
    reach.worked()
    assert at_once([reach.is_worth_a_try] * 20) == [True] * 20


def test_redis_stops_and_comes_back(own_redis, caplog):
    assert granted(4) == 4
    own_redis.stop()
    assert granted(15) == 10, "counted anew, by this process"
    own_redis.start()
    rate_limits._reach._next_try = 0.0
    assert granted(15) == 10, "it kept nothing, and counts again"
    said = [word for record in caplog.records for word in ("redis gone", "redis back") if word in record.message]
    assert said == ["redis gone", "redis back"]


def test_redis_freezes_in_the_middle(own_redis):
    assert granted(4) == 4
    os.kill(own_redis.child.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert granted(15) == 10
        assert time.monotonic() - began < 10 * redis_client.TIMEOUT_SECONDS
    finally:
        os.kill(own_redis.child.pid, signal.SIGCONT)
    rate_limits._reach._next_try = 0.0
    assert granted(15) <= 6, "what it counted before still counts"


@pytest.mark.parametrize(
    "ill",
    [
        lambda redis: redis.config_set("maxmemory", 1),
        lambda redis: redis.replicaof("127.0.0.1", 1),
        lambda redis: redis.config_set("requirepass", "another"),
        lambda redis: redis.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval"),
    ],
    ids=["full", "a replica", "another password", "no scripts allowed"],
)
def test_redis_that_answers_with_errors(own_redis, ill):
    redis = redis_client.client()
    ill(redis)
    redis.connection_pool.disconnect()
    assert granted(15) == 10


def test_redis_that_lost_the_script_is_told_again(own_redis):
    assert granted(4) == 4
    redis_client.client().script_flush()
    assert granted(15) == 6
    assert not rate_limits._reach._is_lost


def test_a_key_of_another_kind_under_the_counters_name(own_redis):
    counter = Counter("of another kind", 10, 60)
    redis_client.client().lpush(counter.key, "x")
    with pytest.raises(redis_client.Unusable):
        in_redis([counter], [[0]])


def test_memory_is_bounded_and_forgets_the_oldest_first():
    memory = InMemory(most=100)
    for number in range(1_000):
        assert memory.take([Counter(f"key {number}", 1, 60)], [[0]]) == [None]
        assert len(memory._counted) <= 100
    (answer,) = memory.take([Counter("key 999", 1, 60)], [[0]])
    assert isinstance(answer, Full)
    assert memory.take([Counter("key 0", 1, 60)], [[0]]) == [None]


def test_memory_forgets_what_is_over_before_what_is_not():
    memory = InMemory(most=10)
    memory.take([Counter("a day", 1, 86_400)], [[0]])
    for number in range(10):
        memory._counted[f"over {number}"] = (1, time.monotonic() - 1)
    memory.take([Counter("now", 1, 60)], [[0]])
    assert set(memory._counted) == {"a day", "now"}


# --- What people see --------------------------------------------------------------------------------------------------


def test_a_cookie_is_found_as_browsers_send_it():
    client = Client(REMOTE_ADDR="192.0.2.1")
    client.cookies["sessionid"] = "x"
    client.cookies[rate_limits.BUYER_COOKIE] = browser(3)
    assert attempt_of("hold", client._base_environ()) == Attempt("hold", "192.0.2.1", browser(3))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (60, "60 seconds"), (121, "3 minutes"), (7_201, "3 hours"), (86_400, "24 hours")],
)
def test_the_wait_in_words(seconds, words):
    assert wait_in_words(seconds) == words


def test_threads_share_the_connections():
    at_once([partial(take, "hold", meta=meta())] * 20)
    assert len(redis_client.client().connection_pool._connections) <= redis_client.MOST_CONNECTIONS
    assert threading.active_count() < 100


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_wrong_limits_are_named_by_their_variables_before_anything_runs():
    names = [limit.setting for limits in rate_limits._LIMITS.values() for limit in limits]
    ids, said = check(RATE_LIMITS="perhaps", **dict.fromkeys(names, "ten a minute"))
    assert ids == {"counterfoil.E001"}
    assert [name for name in [*names, "RATE_LIMITS"] if f"{name} cannot be read" not in said] == []


def test_sound_limits_pass():
    ids, said = check(RATE_LIMITS="on", HOLD_LIMIT_OVERALL="200/s,5000/m,100000/d", SYNC_LIMIT_PER_ADDRESS="off")
    assert ids == set(), said


def test_the_demo_has_the_limits_that_its_caller_gives(tmp_path):
    caller = {"RATE_LIMITS": "off", "HOLD_LIMIT_PER_BUYER": "99/m"}
    plan = make_plan(VarFolder(tmp_path), 8000, caller)
    plan.stripe = Stripe("", "", "", "", "", "", None)
    assert caller.items() <= plan.product_env("web").items()
