"""Everything that is sent by name exists under that name."""

import inspect
import re

import pytest
from celery import current_app
from django.conf import settings

from config.beat import CAN_WAIT, FALLBACK, SCHEDULE

QUEUES = {"checkout", "email", "background"}
PRODUCT = ("config", "ticketing", "reservations", "payments", "monitoring")


@pytest.fixture(scope="module")
def tasks() -> dict:
    current_app.loader.import_default_modules()
    return current_app.tasks


def sources():
    for app in PRODUCT:
        for path in sorted((settings.BASE_DIR / app).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path, path.read_text()


@pytest.mark.parametrize("entry", SCHEDULE)
def test_every_entry_of_the_schedule_exists(tasks, entry):
    planned = SCHEDULE[entry]
    assert planned["task"] in tasks
    assert planned["options"]["queue"] in QUEUES
    assert planned["options"]["expires"] >= 15


def test_the_fallback_runs_what_beat_would_run(tasks):
    """All that gets something done for buyers and staff; beat's own sign of life cannot be sent by anybody else."""
    scheduled = {entry["task"] for entry in SCHEDULE.values()}
    can_wait = set(CAN_WAIT) | (scheduled & {"django.contrib.sessions.clear"})
    assert scheduled - set(FALLBACK) == {"monitoring.beat"} | can_wait
    assert set(FALLBACK) <= scheduled


def test_every_nudge_names_a_task_and_a_queue(tasks):
    nudges = [
        found
        for _path, text in sources()
        for found in re.findall(r'\bnudge\(\s*"([\w.]+)",\s*queue="(\w+)"(?:,\s*(\w+)=)?', text)
    ]
    assert len(nudges) >= 3
    for task, queue, argument in nudges:
        assert task in tasks
        assert queue in QUEUES
        assert set(inspect.signature(tasks[task].run).parameters) == {argument} - {""}


def test_tasks_are_leaves(tasks):
    """Our own ones: explicit name of their app, keyword-only ids."""
    ours = {name: task for name, task in tasks.items() if name.partition(".")[0] in PRODUCT}
    assert len(ours) >= 6
    for name, task in ours.items():
        assert task.run.__module__ == f"{name.partition('.')[0]}.tasks"
        assert task.run.__code__.co_argcount == 0, "positional arguments"


def test_nobody_sends_tasks_but_the_one_helper():
    """No `.delay()`, no `apply_async`: a nudge goes out after the commit, or not at all."""
    for path, text in sources():
        if path.name == "nudges.py" and path.parent.name == "config":
            continue
        assert not re.search(r"\.(delay|apply_async|send_task)\(", text), path
