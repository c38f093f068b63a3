"""The list of hard cases: complete, and each case that is built has a test named after it."""

import json
from collections import Counter

import pytest

from tests import hard_cases
from tests.hard_cases import Case, Shown, as_json, carried_by, chosen, summed_up, table

# docs/hard-cases.md, by family: how many there are.
FAMILIES = {"A": 10, "B": 12, "C": 16, "D": 12, "E": 12, "F": 12, "G": 8, "H": 9, "I": 6, "J": 5, "K": 5, "L": 3}
FAMILIES |= {"M": 6, "N": 6}
BUILT = "ABCDEFGLM"


def test_the_list_is_whole_and_in_order():
    listed = [case.id for case in hard_cases.cases()]
    assert listed == [f"HC-{family}{n}" for family, count in FAMILIES.items() for n in range(1, count + 1)]
    assert len(listed) == 122
    for case in hard_cases.cases():
        is_built = case.family in BUILT and not case.state.startswith("does not apply: ")
        assert case.state == "shown" if is_built else case.state != "shown", case.id


@pytest.mark.parametrize(
    "case", [case for case in hard_cases.cases() if case.state == "shown"], ids=lambda case: case.id
)
def test_every_case_that_is_built_has_a_test_named_after_it(case: Case):
    stem = f"test_{case.id.lower().replace('-', '_')}_"
    names = carried_by().get(case.id, set())
    assert names, f"no test carries {case.id}"
    assert any(name.startswith(stem) for name in names), f"none is called {stem}…"


def test_tests_name_only_cases_that_exist():
    assert set(carried_by()) <= {case.id for case in hard_cases.cases()}


def test_cases_are_chosen_by_id_or_family():
    assert [case.id for case in chosen(["f6", "HC-L", "F6"])] == ["HC-F6", "HC-L1", "HC-L2", "HC-L3"]
    assert len(chosen([])) == 122
    with pytest.raises(KeyError, match="Q1"):
        chosen(["Q1"])


def line(outcome: str, *cases: str, **more: object) -> dict[str, object]:
    return {"test": f"tests/x.py::{outcome}", "outcome": outcome, "cases": list(cases), "cells": []} | more


def test_a_case_is_as_good_as_its_worst_test():
    lines = [line("passed", "HC-L1", "HC-L2"), line("failed", "HC-L2"), line("passed", "HC-L2")]
    results = {shown.case.id: shown for shown in summed_up(chosen(["L", "M3", "N1"]), lines)}
    assert {name: shown.result.partition(":")[0] for name, shown in results.items()} == {
        "HC-L1": "passed",
        "HC-L2": "FAILED",
        "HC-L3": "MISSING",
        "HC-M3": "does not apply",
        "HC-N1": "later",
    }
    assert [name for name, shown in results.items() if not shown.is_good] == ["HC-L2", "HC-L3"]
    assert results["HC-L2"].tests["tests/x.py::passed"] == Counter(passed=2)


def test_a_skipped_test_shows_nothing():
    shown = Shown(chosen(["L1"])[0], {"tests/x.py::y": Counter(skipped=1)})
    assert (shown.result, shown.is_good) == ("skipped", False)


def test_the_report_as_table_and_as_json():
    lines = [line("passed", "HC-L1", cells=["in_settle_1 while settling"])]
    results = summed_up(chosen(["L"]), lines)
    text = table(results, lines)
    assert "HC-L1   passed  " in text
    assert "in_settle_1 while settling" in text
    assert text.splitlines()[-1] == "3 cases: 2 MISSING, 1 passed"
    told = json.loads(as_json(results, lines))
    assert told["cases"]["HC-L1"]["tests"] == {"tests/x.py::passed": {"passed": 1}}
    assert told["crash_matrix"] == {"in_settle_1 while settling": "passed"}
