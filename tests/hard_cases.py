"""`make hard-cases`: every case of docs/hard-cases.md, the tests that show it, and how they ended.

The tests say which cases they show (`@pytest.mark.row("HC-F6")`); nothing is written down twice. As a pytest plugin this
module picks them, and carries what happened back to the command.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "hard-cases.md"
WANTED, REPORT = "HARD_CASES_WANTED", "HARD_CASES_REPORT"
CASE = "hard case"  # the names of what a test's report carries
CELL = "crash matrix"
_ROW = re.compile(r"^\| (HC-([A-Z])\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One row of the list. `state`: shown, later, or "does not apply: …"."""

    id: str
    family: str
    situation: str
    state: str


@dataclass
class Shown:
    """What the tests of one case said: test function → outcome → how often (a parametrised one counts many times)."""

    case: Case
    tests: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def result(self) -> str:
        outcomes = sum(self.tests.values(), Counter[str]())
        if outcomes["failed"]:
            return "FAILED"
        if outcomes["passed"]:
            return "passed"
        if outcomes:
            return "skipped"
        return "MISSING" if self.case.state == "shown" else self.case.state

    @property
    def is_good(self) -> bool:
        return self.result not in ("FAILED", "MISSING", "skipped")


def cases() -> list[Case]:
    return [Case(*found) for found in _ROW.findall(LIST.read_text(encoding="utf-8"))]


def chosen(names: Sequence[str]) -> list[Case]:
    """The cases called F6, HC-F6 or, all of a family, F; without names all of them. Raises KeyError."""
    everything = cases()
    wanted: list[Case] = []
    for name in names:
        asked = name.upper().removeprefix("HC-")
        found = [case for case in everything if asked in (case.family, case.id.removeprefix("HC-"))]
        if not found:
            raise KeyError(name)
        wanted += found
    return [case for case in everything if case in wanted] if names else everything


@cache
def carried_by() -> dict[str, set[str]]:
    """Case → the names of the test functions that carry its id, read from the tests' source."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module_rows = {row for node in tree.body if isinstance(node, ast.Assign) for row in _rows_in(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rows = {row for decorator in node.decorator_list for row in _rows_in(decorator)}
                for row in rows | module_rows:
                    found.setdefault(row, set()).add(node.name)
    return found


def _rows_in(node: ast.AST) -> Iterable[str]:
    """The case ids in any `….row(…)` of this piece of source."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "row":
            for argument in call.args:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("HC-"):
                    yield str(argument.value)


# The pytest plugin


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    wanted = set(os.environ.get(WANTED, "").split())
    kept: list[Any] = []
    left: list[Any] = []
    for item in items:
        rows = {row for mark in item.iter_markers("row") for row in mark.args} & wanted
        item.user_properties += [(CASE, row) for row in sorted(rows)]
        (kept if rows else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


class _Recorder:
    """In the process that was started, which under pytest-xdist runs no test itself and hears of all."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        is_an_end = report.when == "call" or report.outcome != "passed"  # or it failed, or was skipped, before or after
        if not is_an_end:
            return
        told = {"test": report.nodeid.split("[")[0], "outcome": report.outcome}
        told["cases"] = [value for name, value in report.user_properties if name == CASE]
        told["cells"] = [value for name, value in report.user_properties if name == CELL]
        self.lines.append(told)

    def pytest_sessionfinish(self) -> None:
        Path(os.environ[REPORT]).write_text(json.dumps(self.lines), encoding="utf-8")


def pytest_configure(config: Any) -> None:
    if REPORT in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder())


# The command


def run(wanted: Sequence[Case], *, at_once: int) -> tuple[int, list[dict[str, Any]]]:
    """pytest's exit code, and a line for each test that ran. pytest's own words go to stderr."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-hard-cases-") as folder:
        report = Path(folder) / "report.json"
        argv = [sys.executable, "-m", "pytest", "-p", "tests.hard_cases", "-q", "tests"]
        argv += ["-n", str(at_once), "--dist", "loadfile"] if at_once > 1 else []
        env = {"CRASH_MATRIX": "all", **os.environ, WANTED: " ".join(case.id for case in wanted), REPORT: str(report)}
        done = subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        lines = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
    return done.returncode, lines


def summed_up(wanted: Sequence[Case], lines: Iterable[dict[str, Any]]) -> list[Shown]:
    shown = {case.id: Shown(case) for case in wanted}
    for line in lines:
        for case_id in line["cases"]:
            shown[case_id].tests.setdefault(line["test"], Counter())[line["outcome"]] += 1
    return list(shown.values())


def table(results: Sequence[Shown], lines: Sequence[dict[str, Any]]) -> str:
    out = []
    for shown in results:
        result, _colon, why = shown.result.partition(":")
        out.append(f"{shown.case.id:<7} {result:<14} {shown.case.situation}{f' ({why.strip()})' if why else ''}")
        for name, outcomes in sorted(shown.tests.items()):
            many = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            out.append(f"          {name} ({many})")
    if cells := [(cell, line["outcome"]) for line in lines for cell in line["cells"]]:
        out += ["", "Crash matrix: killed at … while …, then healed"]
        out += [f"  {cell:<70} {outcome}" for cell, outcome in sorted(cells)]
    counted = Counter(shown.result.partition(":")[0] for shown in results)
    out += ["", f"{len(results)} cases: " + ", ".join(f"{count} {result}" for result, count in counted.most_common())]
    return "\n".join(out)


def as_json(results: Sequence[Shown], lines: Sequence[dict[str, Any]]) -> str:
    found = {
        shown.case.id: {
            "situation": shown.case.situation,
            "result": shown.result,
            "tests": {name: dict(outcomes) for name, outcomes in sorted(shown.tests.items())},
        }
        for shown in results
    }
    cells = {cell: line["outcome"] for line in lines for cell in line["cells"]}
    return json.dumps({"cases": found, "crash_matrix": cells}, indent=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every chosen case that is built is shown by tests that pass. 1: some is not. 2: there is no such case."""
    parser = argparse.ArgumentParser(prog="make hard-cases", description="Run the tests of the hard cases.")
    parser.add_argument("case", nargs="*", help="a case (F6, HC-F6) or a family of them (F); all of them without")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="test processes (default: %(default)s)")
    asked = parser.parse_args(arguments)
    try:
        wanted = chosen(asked.case)
    except KeyError as unknown:
        parser.error(f"there is no case or family {unknown}: see docs/hard-cases.md")
    code, lines = run(wanted, at_once=asked.at_once)
    results = summed_up(wanted, lines)
    print(as_json(results, lines) if asked.json else table(results, lines))
    ran_well = code in (0, 5)  # 5: no test at all, which is no failure where all chosen cases come later
    return 0 if ran_well and all(shown.is_good for shown in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
