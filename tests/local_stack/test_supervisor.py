"""`make demo` as a person meets it: it comes up, survives the loss of a part, and leaves nothing behind."""

import os
import signal
import stat

import psycopg
import pytest

from deploy.local.parts import get
from tests.local_stack.demo_run import DemoRun, eventually

pytestmark = pytest.mark.timeout(400)

ROLES = {"supervisor", "postgres", "redis", "stripe", "web", "worker", "beat"}


def test_a_killed_demo_leaves_nothing_and_the_next_start_finds_the_data(demo: DemoRun) -> None:
    first = demo.start()
    with psycopg.connect(first["database_url"]) as connection:
        connection.execute("CREATE TABLE proof_of_survival (told text)")
        connection.execute("INSERT INTO proof_of_survival VALUES ('still here')")
    assert len(demo.remains()) > len(ROLES), "the test would see what is left behind"

    demo.kill(signal.SIGKILL)
    eventually("nothing is left of the killed demo", lambda: not demo.remains(), 10)
    eventually("its demo.json misleads nobody", lambda: not demo.is_up(), 5)

    second = demo.start()
    with psycopg.connect(second["database_url"]) as connection:
        row = connection.execute("SELECT told FROM proof_of_survival").fetchone()
    assert row == ("still here",)
    assert second["admin"]["password"] == first["admin"]["password"]
    assert second["database_url"] == first["database_url"]

    assert demo.kill(signal.SIGTERM) == 0
    assert demo.remains() == {}
    assert not demo.is_up()


def test_a_demo_tells_where_it_is_and_keeps_its_parts_running(demo: DemoRun) -> None:
    facts = demo.start()

    assert stat.S_IMODE((demo.var / "demo.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(demo.var.stat().st_mode) == 0o700
    assert set(facts["pids"]) == ROLES
    assert facts["base_url"] == f"http://127.0.0.1:{demo.port}"
    assert {"url", "username", "password"} <= set(facts["admin"])
    assert facts["staff_token"]
    assert facts["metrics_token"] and facts["maintenance_secret"]
    assert all(facts["stripe"].values())
    assert get(facts["mailbox_url"])[0] == 200
    assert demo.answers("/") and demo.answers("/readyz/")

    again = demo.launch()
    assert again.wait(60) == 1
    assert "already running" in demo.told()
    assert demo.control("reset").returncode == 1

    os.kill(facts["pids"]["web"], signal.SIGKILL)
    eventually("the web is back under a new pid", lambda: demo.facts()["pids"]["web"] != facts["pids"]["web"], 30)
    eventually("it has a new pid", lambda: demo.facts()["pids"]["web"], 60)
    eventually("and answers on the same port", lambda: demo.answers("/livez/"), 60)

    stopped = demo.control("stop", "redis")
    assert stopped.returncode == 0, stopped.stderr
    assert demo.facts()["pids"]["redis"] is None
    assert demo.answers("/"), "the shop does not need Redis"
    assert demo.control("start", "redis").returncode == 0
    assert demo.facts()["pids"]["redis"]
    assert demo.control("stop", "nonsense").returncode == 1

    assert demo.kill(signal.SIGINT) == 0
    assert demo.remains() == {}
