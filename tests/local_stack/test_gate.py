"""The gate's own judgement: a skipped test is found in pytest's report, an expected failure is none."""

from pathlib import Path

from deploy.local.gate import skipped_tests

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.a" name="test_runs"/>
<testcase classname="tests.a" name="test_hides"><skipped type="pytest.skip" message="no browser"/></testcase>
<testcase classname="tests.a" name="test_known"><skipped type="pytest.xfail" message="issue 1"/></testcase>
</testsuite></testsuites>"""


def test_skipped_tests_are_named(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert skipped_tests(tmp_path / "report.xml") == ["tests.a.test_hides: no browser"]
