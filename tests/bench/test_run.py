"""One real run of two rows, with tiny numbers: that it measures the product, and leaves nothing behind."""

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


def test_it_says_what_it_can_do():
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--only" in done.stdout
