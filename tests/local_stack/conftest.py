from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_stack.demo_run import DemoRun


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoRun]:
    run = DemoRun(tmp_path / "a folder" / "var")
    run.var.parent.mkdir()
    yield run
    run.end()
