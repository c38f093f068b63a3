"""Wrong settings are named before anything runs, each by its stable id."""

import os
import re
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.checks import Tags, run_checks

from config import checks

SOUND = {
    "SECRET_KEY": "a secret key of fifty characters, as production has it!",
    "DEBUG": "off",
    "ALLOWED_HOSTS": "tickets.example",
    "PUBLIC_URL": "https://tickets.example",
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_PUBLISHABLE_KEY": "pk_live_x",
    "STRIPE_WEBHOOK_SECRETS": "whsec_x",
    "EMAIL_URL": "smtp://mail.example:25",
    "DEMO": "off",
    "FAILPOINTS": "",
    "LOG_LEVEL": "INFO",
}


def check(*arguments: str, **environment: str) -> tuple[set[str], str]:
    """The ids that `manage.py check` names in a process with this environment, and all it said."""
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check", *arguments],
        cwd=settings.BASE_DIR,
        env={**inherited, **SOUND, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stdout + done.stderr
    ids = set(re.findall(r"counterfoil\.[EW]\d{3}", said))
    assert (done.returncode != 0) == any("E" in name.rpartition(".")[2] for name in ids), said
    return ids, said


@pytest.mark.row("M9")
def test_sound_settings_pass_also_for_deployment():
    ids, said = check("--deploy", "--fail-level", "WARNING")
    assert ids == set(), said


def test_everything_wrong_at_once_is_named_at_once():
    """Each by its variable; a value that cannot be read does not hide the others."""
    ids, said = check(
        SECRET_KEY="",
        PUBLIC_URL="tickets.example",
        STRIPE_WEBHOOK_SECRETS="",
        STRIPE_PUBLISHABLE_KEY="pk_test_x",
        FAILPOINTS="in_settle_1=kill",
        LOG_LEVEL="LOUD",
        HOLD_SWEEP_BATCH="many",
        STRIPE_READ_TIMEOUT_SECONDS="soon",
        DEMO="perhaps",
    )
    assert ids == {f"counterfoil.E00{n}" for n in (1, 2, 4, 5, 6, 7, 8)}
    for variable in ("HOLD_SWEEP_BATCH", "STRIPE_READ_TIMEOUT_SECONDS", "DEMO", "PUBLIC_URL", "SECRET_KEY"):
        assert variable in said


def test_any_database_but_postgresql_is_refused():
    ids, said = check(DATABASE_URL="sqlite:///tickets.sqlite3")
    assert ids == {"counterfoil.E003"}, said


def test_what_stands_in_the_way_of_going_live_is_a_warning():
    ids, said = check(
        "--deploy", STRIPE_SECRET_KEY="", STRIPE_WEBHOOK_SECRETS="", EMAIL_URL="", RESEND_API_KEY="", DEMO="on"
    )
    assert ids == {"counterfoil.W001", "counterfoil.W002", "counterfoil.W003"}, said


ONE_BY_ONE = {
    "E002": {"SECRET_KEY": checks.settings.UNSAFE_SECRET_KEY},
    "E004": {"PUBLIC_URL": "ftp://tickets.example"},
    "E005": {"STRIPE_WEBHOOK_SECRETS": []},
    "E006": {"STRIPE_PUBLISHABLE_KEY": "pk_live_x"},
    "E007": {"FAILPOINTS": {"before_stripe": "kill"}},
    "E008": {"LOG_LEVEL": "LOUD"},
}


@pytest.mark.parametrize("check_id", ONE_BY_ONE)
def test_each_check_fires_for_its_own_variable_alone(settings, check_id):
    assert run_checks(tags=[Tags.compatibility]) == []
    for name, value in ONE_BY_ONE[check_id].items():
        setattr(settings, name, value)
    assert [message.id for message in run_checks(tags=[Tags.compatibility])] == [f"counterfoil.{check_id}"]


def test_a_developers_machine_may_have_the_unsafe_key_and_failpoints(settings):
    settings.DEBUG, settings.SECRET_KEY, settings.FAILPOINTS = True, settings.UNSAFE_SECRET_KEY, {"x": "raise"}
    assert run_checks(tags=[Tags.compatibility]) == []
