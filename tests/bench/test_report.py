import json
import math
from pathlib import Path

import pytest

from deploy.bench import report
from deploy.bench.__main__ import IDS, arguments
from deploy.bench.report import ExitCode, all_failed, exit_code, failed, judged
from deploy.bench.sizes import FULL, SHORT
from deploy.bench.targets import GOALS, Verdict

HELD = judged("PF2", 0.3, "3,000/s", yardstick="10,000/s", ratio=0.3, notes=("p99 9 ms",))
MISSED = judged("PF5", 0.49, "4,900/s", yardstick="10,000/s", ratio=0.49)


@pytest.mark.parametrize(
    ("row_id", "value", "verdict"),
    [
        ("PF2", 0.29, Verdict.MISSED),
        ("PF2", 0.30, Verdict.HELD),
        ("PF2", 0.55, Verdict.MOONSHOT),
        ("PF3.exact", 0, Verdict.HELD),
        ("PF3.exact", 1, Verdict.MISSED),
        ("PF3.warm", 3.6, Verdict.MISSED),
        ("PF3.warm", 1.4, Verdict.MOONSHOT),
        ("PF12", math.nan, Verdict.MISSED),
        ("PF2.key", 0.01, Verdict.INFORMATION),
    ],
)
def test_a_value_is_held_against_its_goal(row_id: str, value: float, verdict: Verdict):
    assert judged(row_id, value, "").verdict is verdict


def test_a_fast_error_is_no_success():
    assert judged("PF2", 0.9, "", is_sound=False).verdict is Verdict.MISSED


def test_exit_codes():
    assert exit_code([HELD]) is ExitCode.ALL_HELD
    assert exit_code([HELD, judged("lock", 0.1, "")]) is ExitCode.ALL_HELD
    assert exit_code([HELD, MISSED]) is ExitCode.MISSED
    assert exit_code([HELD, MISSED, failed("PF7.p99", "no")]) is ExitCode.COULD_NOT_RUN
    assert exit_code([]) is ExitCode.COULD_NOT_RUN


def test_the_table_has_a_line_for_each_row_and_the_notes_below():
    lines = report.table([HELD, MISSED]).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["PF2", GOALS["PF2"].what, "3,000/s", "10,000/s", "0.30 ×", "≥ 0.3 ×", "≥ 0.55 ×", "held"]
    assert lines[-1] == "- PF2: p99 9 ms"


def test_json_says_the_same(tmp_path: Path):
    path = tmp_path / "bench.json"
    report.write_json(path, [HELD, failed("PF12", "no Linux")], facts={"postgresql": "18"})
    said = json.loads(path.read_text())
    assert said["exit_code"] == 2
    assert said["postgresql"] == "18"
    first, second = said["rows"]
    assert (first["id"], first["value"], first["verdict"], first["target"]) == ("PF2", 0.3, "held", "≥ 0.3 ×")
    assert (second["value"], second["notes"]) == (None, ["no Linux"])


def test_a_row_that_fails_fails_with_all_its_lines():
    assert [row.id for row in all_failed("PF10", "why")] == ["PF10.statements", "PF10.writes", "PF10.lock"]
    assert [row.id for row in all_failed("PF1", "why")] == ["PF1.pgbench", "PF1.cursor"]


def test_every_row_can_be_asked_for_and_has_a_goal():
    from deploy.bench.rows import ONLY_WHEN_ASKED, ROWS

    assert set(ROWS) == set(IDS) == {row_id.partition(".")[0] for row_id in GOALS}
    assert set(ONLY_WHEN_ASKED) <= set(ROWS)


def test_arguments():
    assert arguments([]).size is SHORT
    options = arguments(["--full", "--only", "pf3, LOCK", "--set", "HOLD_BATCH=1", "--threads", "8"])
    assert (options.size, options.only, options.set, options.threads) == (
        FULL,
        ["PF3", "lock"],
        [("HOLD_BATCH", "1")],
        8,
    )
    for wrong in (["--only", "PF99"], ["--only", ","], ["--threads", "0"], ["--set", "x"], ["--full", "--tiny"]):
        with pytest.raises(SystemExit) as ended:
            arguments(wrong)
        assert ended.value.code == ExitCode.COULD_NOT_RUN
