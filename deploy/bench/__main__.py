"""`make bench`: measures the product beside its yardsticks and holds the result against the targets.

    python -m deploy.bench [--full] [--only PF2,PF3] [--json FILE]

Brings everything it needs (a durable PostgreSQL, Valkey, web processes, the load) and ends what it started.
Exit codes: 0 every measured target holds, 1 a target was missed, 2 something could not run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from deploy.bench import report, surroundings
from deploy.bench.report import ExitCode, Row
from deploy.bench.sizes import FULL, SHORT, TINY
from deploy.bench.stack import Stack
from deploy.local.plan import ROOT, WEB_THREADS, PlanError
from deploy.local.screen import Screen
from deploy.local.services import ServiceError

# Rows import the product's models, which they can only once Django is set up: their names are kept here.
IDS = ("PF1", "PF2", "PF3", "PF4", "PF5", "PF6", "PF7", "PF8", "PF9", "PF10", "PF12", "PF13", "lock")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", dest="size", action="store_const", const=FULL, help="the long form, about 25 minutes")
    form.add_argument("--tiny", dest="size", action="store_const", const=TINY, help="for the tests of this tool")
    parser.add_argument("--only", type=_ids, metavar="IDS", help=f"some of {','.join(IDS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--workers", type=_count, default=2, help="web processes (2)")
    parser.add_argument("--threads", type=_count, default=WEB_THREADS, help=f"blocking threads of each ({WEB_THREADS})")
    parser.add_argument("--clients", type=_count, default=2, help="processes that make the load (2)")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    parser.add_argument(
        "--set", type=_variable, action="append", default=[], metavar="NAME=VALUE", help="a setting of the product"
    )
    parser.set_defaults(size=SHORT)
    return parser.parse_args(given)


def _ids(text: str) -> list[str]:
    known = {name.lower(): name for name in IDS}
    asked = [name.strip().lower() for name in text.split(",") if name.strip()]
    if not asked or not set(asked) <= set(known):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(IDS)}")
    return [known[name] for name in asked]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1")
    return int(text)


def _variable(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name.isidentifier():
        raise argparse.ArgumentTypeError("NAME=VALUE")
    return name, value


def measure(stack: Stack, options: argparse.Namespace, screen: Screen) -> tuple[list[Row], dict[str, str]]:
    """The rows in the order of their ids, and what is to be known about the load they were measured with."""
    stack.prepare(static_files=options.only is None or "PF12" in options.only)
    from deploy.bench.office import Office
    from deploy.bench.rows import ONLY_WHEN_ASKED, ROWS

    office = Office(stack, options.size, screen, processes=options.clients)
    found: list[Row] = []
    for row_id, work in ROWS.items():
        is_asked = row_id in options.only if options.only else options.size is FULL or row_id not in ONLY_WHEN_ASKED
        if not is_asked:
            continue
        screen.step(f"{row_id} …")
        try:
            rows = list(work(office))
        except Exception as error:  # the other rows can still be measured; this one says why not
            rows = report.all_failed(row_id, f"{type(error).__name__}: {error}")
        found += rows
        for row in rows:
            screen.detail(f"{row.id}: {row.measured or row.notes[0]}{_beside(row)}  {row.verdict}")
    facts = {}
    if costs := office.client_cpu_seconds:
        facts["client_us_per_request"] = f"{statistics.median(costs) * 1_000_000:.0f}"
    return sorted(found, key=lambda row: _place(row.id)), facts


def _beside(row: Row) -> str:
    beside = f" beside {row.yardstick}" if row.yardstick else ""
    return beside if row.ratio is None else f"{beside}: {row.ratio:.2f} ×"


def _place(row_id: str) -> int:
    return IDS.index(row_id.partition(".")[0])


def run(options: argparse.Namespace, screen: Screen) -> ExitCode:
    surroundings_found = surroundings.Surroundings.look()
    (ROOT / "var").mkdir(exist_ok=True)
    # Beside the demo's data and not in /tmp, which is memory on many machines: the disk decides what durable costs.
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "var"))
    screen.step(f"setting up, in {folder.relative_to(ROOT)}")
    began = time.monotonic()
    try:
        surroundings_found.measure_disk(folder)
        with Stack(folder, workers=options.workers, threads=options.threads, variables=dict(options.set)) as stack:
            rows, load_facts = measure(stack, options, screen)
            facts = {**stack.facts(), **surroundings_found.facts(), **load_facts}
    finally:
        if options.keep:
            screen.step(f"kept: {folder.relative_to(ROOT)}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - began
    screen.line(f"\n{report.table(rows)}\n")
    for line in surroundings_found.remarks(options.size, facts, processes=options.clients, seconds=seconds):
        screen.line(line)
    code = report.exit_code(rows)
    if options.json is not None:
        said = {"form": options.size.name, "set": dict(options.set), "seconds": round(seconds, 1), **facts}
        report.write_json(options.json, rows, facts=said)
    screen.line(
        {
            ExitCode.ALL_HELD: "Every measured target holds.",
            ExitCode.MISSED: "A target was missed.",
            ExitCode.COULD_NOT_RUN: "Something could not run.",
        }[code]
    )
    return code


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    screen = Screen()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    os.chdir(ROOT)
    try:
        return run(options, screen)
    except (ServiceError, PlanError, OSError) as error:
        screen.error(f"The bench could not run: {error}")
        return ExitCode.COULD_NOT_RUN
    except KeyboardInterrupt:
        screen.error("Interrupted; everything it started has ended.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
