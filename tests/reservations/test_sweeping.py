"""The sweep of holds past their time: who runs it, what it writes down, and what happens when it fails or is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from celery import current_app
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from waffle.testutils import override_flag

from config import locks, signed_calls
from monitoring import fallback
from reservations import sweeping
from reservations.models import Reservation, SweepRun
from tests import redis_faults
from tests.factories import ProductFactory
from tests.purchases import end_time, hold, recount, stock_of
from tests.races import at_once, of_type
from tests.reservations.guards import slow, without
from ticketing.models import Quota

pytestmark = pytest.mark.django_db

ADDRESS = "/maintenance/release-expired-holds/"
SECRET = "a maintenance secret of the tests"


def ended_holds(number: int, *, seconds: float = 1, **product) -> list[Reservation]:
    """Of one product, one unit each, past their time."""
    sold = ProductFactory(**{"quotas__capacity": 100} | product)
    held = [hold(sold) for _ in range(number)]
    for each in held:
        end_time(each.id, seconds=seconds)
    return list(Reservation.objects.filter(pk__in=[each.id for each in held]))


def runs() -> list[tuple[str, int, str, bool]]:
    """(by, dealt with, error, whether it finished), oldest first."""
    rows = SweepRun.objects.filter(name="EXPIRED_HOLDS").order_by("pk")
    return [(row.by, row.dealt_with, row.error, row.finished_at is not None) for row in rows]


@pytest.mark.row("H8")
def test_a_run_is_written_down_with_its_count_and_its_time():
    ended_holds(3)
    assert sweeping.sweep_expired_holds(by="staff:7") == 3
    run = SweepRun.objects.get()
    assert (run.name, run.by, run.dealt_with, run.error) == ("EXPIRED_HOLDS", "staff:7", 3, "")
    assert run.started_at <= run.finished_at
    assert sweeping.holds_over() == 0


@pytest.mark.row("H8")
def test_everybody_who_can_run_it_is_known_by_name(client, settings, capsys):
    """H8: beat by Celery, the fallback loop by itself, the command, and the signed endpoint: one call behind them all."""
    settings.MAINTENANCE_SECRET = SECRET
    current_app.loader.import_default_modules()
    header = signed_calls.sign(b"{}", secret=SECRET, at=int(time.time()))
    post = partial(client.post, ADDRESS, b"{}", content_type="application/json", headers={"X-Signature": header})
    ways = {
        "beat": lambda: current_app.tasks["reservations.release_expired_holds"].apply(throw=True),
        "worker": lambda: fallback.sweep("reservations.release_expired_holds"),
        "command": lambda: call_command("release_expired_holds"),
        "endpoint": post,
    }
    for run_it in ways.values():
        ended_holds(1)
        run_it()
    assert runs() == [(by, 1, "", True) for by in ways]
    assert capsys.readouterr().out == "1 released\n"


@pytest.mark.row("H8")
def test_runs_without_work_keep_one_row_of_each_who_ran():
    """The fallback loop sweeps every second or two; the row that is kept is the last one's."""
    for _ in range(3):
        sweeping.sweep_expired_holds(by="worker")
    sweeping.sweep_expired_holds(by="beat")
    first = SweepRun.objects.get(by="worker")
    sweeping.sweep_expired_holds(by="worker")
    assert runs() == [("beat", 0, "", True), ("worker", 0, "", True)]
    assert SweepRun.objects.get(by="worker").started_at > first.started_at
    ended_holds(2)
    for _ in range(3):
        sweeping.sweep_expired_holds(by="worker")
    assert runs() == [("beat", 0, "", True), ("worker", 0, "", True), ("worker", 2, "", True), ("worker", 0, "", True)]


@pytest.mark.row("H8")
def test_a_run_without_work_does_not_wipe_out_one_that_died():
    SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat")
    sweeping.sweep_expired_holds(by="beat")
    assert runs() == [("beat", 0, "", False), ("beat", 0, "", True)]


@pytest.mark.row("H8")
def test_when_its_time_is_up_a_run_leaves_the_rest_to_the_next():
    ended_holds(5)
    assert sweeping.sweep_expired_holds(by="beat", batch=2, for_seconds=0) == 2
    assert sweeping.holds_over() == 3
    assert sweeping.sweep_expired_holds(by="beat", batch=2, for_seconds=60) == 3
    assert [count for _by, count, _error, _finished in runs()] == [2, 3]


@pytest.mark.row("H8")
def test_the_endpoint_says_what_it_left(client, settings, monkeypatch):
    settings.MAINTENANCE_SECRET, settings.HOLD_SWEEP_BATCH = SECRET, 2
    monkeypatch.setattr(sweeping, "ENDPOINT_SECONDS", 0.0)
    ended_holds(3)
    answers, now = [], int(time.time())
    for call in range(2):
        header = signed_calls.sign(b"{}", secret=SECRET, at=now - call)
        post = client.post(ADDRESS, b"{}", content_type="application/json", headers={"X-Signature": header})
        answers.append(post.json())
    assert answers == [{"released": 2, "left": 1}, {"released": 1, "left": 0}]


@pytest.mark.row("H10")
def test_holds_over_are_counted_by_how_long_they_are_over():
    """H10: the audit's number; living and ordered holds are not in it."""
    ended_holds(2, seconds=1)
    ended_holds(3, seconds=301)
    hold(ProductFactory())
    ordered = ended_holds(1, seconds=900)[0]
    Reservation.objects.filter(pk=ordered.pk).update(status="ORDERED")
    assert sweeping.holds_over() == 5
    assert sweeping.holds_over(for_at_least=sweeping.LATE_AFTER) == 3
    sweeping.sweep_expired_holds(by="beat")
    assert sweeping.holds_over() == 0
    assert Reservation.objects.get(pk=ordered.pk).status == "ORDERED"


@pytest.mark.row("H8", "H12", "HC-A9")
@pytest.mark.parametrize("is_locking", [True, False], ids=["with locks", "locks switched off"])
def test_hc_a9_of_two_beats_one_sweeps_while_people_never_wait_for_a_turn(client, log_lines, is_locking):
    """HC-A9: the lock saves double work and nothing more: switched off, both sweep."""
    with (
        override_flag(locks.FLAG, active=is_locking),
        locks.run_alone("release_expired_holds", seconds=30) as first,
    ):
        assert first
        ended_holds(1)
        by_beat = sweeping.sweep_expired_holds(by="beat", in_turn=True)
        assert by_beat == (0 if is_locking else 1)
        assert any("another sweep" in line["event"] for line in log_lines()) == is_locking
        ended_holds(1)
        assert sweeping.sweep_expired_holds(by="staff:1") == 2 - by_beat
    assert [by for by, _count, _error, _finished in runs()] == (["staff:1"] if is_locking else ["beat", "staff:1"])
    with override_flag(locks.FLAG, active=is_locking):
        ended_holds(1)
        assert sweeping.sweep_expired_holds(by="beat", in_turn=True) == 1


@pytest.mark.row("H8", "H12")
def test_without_redis_every_beat_sweeps(settings):
    settings.REDIS_URL = redis_faults.nobody()
    redis_faults.forget()
    ended_holds(1)
    with override_flag(locks.FLAG, active=True):
        assert sweeping.sweep_expired_holds(by="beat", in_turn=True) == 1
    redis_faults.forget()


@pytest.mark.row("H8", "HC-A9")
@pytest.mark.django_db(transaction=True)
def test_hc_a9_sweepers_at_once_share_the_work_and_release_once():
    """HC-A9: four of them over forty ended holds, with a living one on the same quota: forty in all, no more."""
    held = ended_holds(40)
    living = hold(held[0].lines.get().product, 5)
    released = at_once([partial(sweeping.sweep_expired_holds, by=f"staff:{n}", batch=3) for n in range(4)])
    assert sum(released) == 40
    assert sum(count for _by, count, _error, _finished in runs()) == 40
    assert all(finished and not error for _by, _count, error, finished in runs())
    product = held[0].lines.get().product
    assert stock_of(product) == recount(product.quotas.get()) == (5, 0)
    assert Reservation.objects.get(pk=living.id).status == "ACTIVE"


@pytest.mark.row("H8", "HC-A9")
def test_hc_a9_without_its_guards_two_sweepers_give_back_twice(altered_database):
    """HC-A9, the guards off: neither are locked rows skipped nor is the status looked at again, and the work is slow."""
    held = ended_holds(10)
    product = held[0].lines.get().product
    for _ in range(2):
        hold(product, 10)
    without("FOR NO KEY UPDATE SKIP LOCKED", "reservations_release_expired")
    without("AND status = p_from", "reservations_end")
    slow("RETURN reservations_end(v_ids", "reservations_release_expired", seconds=0.4)
    released = at_once([partial(sweeping.sweep_expired_holds, by="beat")] * 2)
    assert sum(released) == 20
    assert stock_of(product) != recount(product.quotas.get())


@pytest.mark.row("H8", "HC-A9")
@pytest.mark.django_db(transaction=True)
def test_hc_a9_buyers_go_on_while_it_is_swept():
    """H8: twelve buyers take and give back on the quota that three sweepers tidy; nothing is lost or counted twice."""
    held = ended_holds(60, quotas__capacity=200)
    product = held[0].lines.get().product

    def buy() -> int:
        taken = [hold(product) for _ in range(5)]
        return len(taken)

    sweep = partial(sweeping.sweep_expired_holds, by="beat", batch=7)
    results = at_once([*[buy] * 12, *[sweep] * 3])
    assert not of_type(results, Exception)
    assert stock_of(product) == recount(product.quotas.get()) == (60, 0)


@pytest.mark.row("H8", "H10")
@pytest.mark.django_db(transaction=True)
def test_a_poisoned_hold_stops_nobody_is_written_down_and_can_be_mended(capsys):
    """H8: a counter was altered by hand. The others are released, the run says so, the recount mends, the next is clean."""
    poisoned, healthy = ended_holds(1, seconds=120)[0], ended_holds(3)
    Quota.objects.filter(products=poisoned.lines.get().product).update(held=0)
    assert sweeping.sweep_expired_holds(by="beat") == 3
    assert set(Reservation.objects.filter(pk__in=[h.pk for h in healthy]).values_list("status")) == {("EXPIRED",)}
    run = SweepRun.objects.get()
    assert run.finished_at is not None
    assert run.error.startswith("1 cannot be released")
    with pytest.raises(CommandError, match="1 could not be released"):
        call_command("release_expired_holds")
    call_command("recount_quotas", mend=True)
    assert sweeping.sweep_expired_holds(by="beat") == 1
    assert stock_of(poisoned.lines.get().product) == (0, 0)
    assert runs()[-1] == ("beat", 1, "", True)
    call_command("release_expired_holds")


@pytest.mark.row("H8")
@pytest.mark.django_db(transaction=True)
def test_a_hold_in_a_buyers_hands_is_not_taken_for_a_poisoned_one():
    """Its row is locked (a checkout, say): skipped without waiting, no error."""
    held = ended_holds(2)
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as buyer:
        buyer.execute("SELECT FROM reservations_reservation WHERE id = %s FOR NO KEY UPDATE", [held[0].pk])
        began = time.monotonic()
        assert sweeping.sweep_expired_holds(by="beat") == 1
        assert time.monotonic() - began < 2
    assert runs() == [("beat", 1, "", True)]
    assert sweeping.sweep_expired_holds(by="beat") == 1


@pytest.mark.row("H8")
def test_a_run_that_fails_says_what_failed_and_raises_it_on(altered_database):
    """Even where the failure broke its transaction; PostgreSQL's quotation of the row is left out."""
    ended_holds(1)
    without("RETURN 0;", "reservations_release_expired", instead="RAISE EXCEPTION USING MESSAGE = 'the disk is full';")
    without("v_ids IS NULL", "reservations_release_expired", instead="true")
    for _ in range(3):
        with pytest.raises(DatabaseError, match="the disk is full"):
            sweeping.sweep_expired_holds(by="beat")
    ((by, count, error, is_finished),) = runs()  # the same failure again and again is one row, the last
    assert (by, count, is_finished) == ("beat", 0, True)
    assert error.endswith("Error: the disk is full")


@pytest.mark.row("H8")
def test_an_impossible_batch_is_an_error_and_not_an_idle_run(settings):
    settings.HOLD_SWEEP_BATCH = -1
    with pytest.raises(ValueError, match="a batch of -1"):
        sweeping.sweep_expired_holds(by="beat")
    assert runs() == [("beat", 0, "ValueError: a batch of -1", True)]
    with pytest.raises(CommandError, match="1 or more"):
        call_command("release_expired_holds", batch=0)


@pytest.fixture
def stuck_sweep(transactional_db) -> Iterator[subprocess.Popen]:
    """`manage.py release_expired_holds` as a process of its own, waiting for a quota that another session has locked."""
    product = ended_holds(2)[0].lines.get().product
    server, _slash, _name = os.environ["DATABASE_URL"].rpartition("/")
    environment = os.environ | {"DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}"}
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as stuck:
        stuck.execute("SELECT FROM ticketing_quota WHERE id = %s FOR UPDATE", [product.quotas.get().pk])
        command = [sys.executable, "manage.py", "release_expired_holds"]
        with subprocess.Popen(command, cwd=project.BASE_DIR, env=environment, stderr=subprocess.DEVNULL) as process:
            for _ in range(200):
                if SweepRun.objects.exists():
                    break
                time.sleep(0.05)
            yield process
            process.kill()


@pytest.mark.row("H8", "H10", "HC-A10")
def test_hc_a10_a_run_that_is_killed_leaves_its_row_open_and_the_probe_says_so_when_it_is_late(client, stuck_sweep):
    """HC-A10: SIGKILL in the middle: nothing was released by halves, and the next run does all of it."""
    assert stuck_sweep.poll() is None
    stuck_sweep.send_signal(signal.SIGKILL)
    stuck_sweep.wait(10)
    assert runs() == [("command", 0, "", False)]
    SweepRun.objects.update(started_at=Now() - timedelta(minutes=4))
    check = client.get("/readyz/").json()["checks"]["sweep"]
    assert (check["ok"], check["detail"][-21:]) == (False, "began and did not end")


@pytest.mark.row("H8")
@pytest.mark.django_db(transaction=True)
def test_after_a_killed_run_the_next_releases_everything():
    ended_holds(2)
    SweepRun.objects.create(name="EXPIRED_HOLDS", by="beat", started_at=Now() - timedelta(minutes=1))
    assert sweeping.sweep_expired_holds(by="beat") == 2
