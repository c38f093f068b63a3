"""Real runs of some rows, with tiny numbers: that they measure the product, and leave nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

from deploy.local.plan import ROOT


def test_a_tiny_run_measures_the_product_and_cleans_up(tmp_path: Path):
    before = set((ROOT / "var").glob("bench-*"))
    path = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench", "--tiny", "--only", "PF3,PF10", "--threads", "8", "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    said = json.loads(path.read_text())
    rows = {row["id"]: row for row in said["rows"]}
    assert list(rows) == ["PF3.exact", "PF3.warm", "PF3.cold", "PF10.statements", "PF10.writes", "PF10.lock"]
    assert said["exit_code"] == done.returncode
    assert said["postgresql"]
    # What does not depend on how fast this machine is:
    assert rows["PF3.exact"]["verdict"] == "held", rows["PF3.exact"]["notes"]
    assert rows["PF10.writes"]["value"] >= 1
    assert rows["PF10.statements"]["value"] >= 1
    assert rows["PF10.lock"]["value"] > 0
    assert "| PF3.exact" in done.stdout
    left = {folder for folder in (ROOT / "var").glob("bench-*") if folder not in before}
    assert not left or all(folder.name not in done.stdout for folder in left)


def test_a_tiny_run_sells_to_the_end_and_takes_a_burst_of_webhooks(tmp_path: Path):
    """With web, worker, beat and the offline Stripe: what was bought has its ticket, what was told has its effect."""
    path = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench", "--tiny", "--only", "PF8,PF9", "--threads", "8", "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    rows = {row["id"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["PF8.rate", "PF8.ticket", "PF9.answers", "PF9.ack", "PF9.drained"]
    # Not how fast, which is this machine's, but that it was all done:
    assert rows["PF8.rate"]["numbers"]["purchases"] > 0
    assert rows["PF8.rate"]["numbers"]["stripe_alone_per_second"] > 0
    assert "WRONG" not in done.stdout
    assert rows["PF8.ticket"]["value"] > 0
    assert rows["PF9.answers"]["value"] == 0, rows["PF9.answers"]["notes"]
    assert rows["PF9.ack"]["value"] > 0
    assert rows["PF9.drained"]["value"] > 0


def test_it_says_what_it_can_do():
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--only" in done.stdout
