"""The house's rules that no other tool looks after."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.template.loader import get_template

from ticketing.models import OutgoingEmail

ROOT = settings.BASE_DIR
PRODUCT = ("config", "ticketing", "reservations", "payments", "monitoring")
TEMPLATES = ROOT / "templates"
ERROR_PAGES = {f"{status}.html" for status in ("400", "403", "403_csrf", "404", "429", "500")}
# Found by name, by Django or by the admin theme.
CONVENTIONS = ERROR_PAGES | {"admin/index.html"}


def modules() -> list[Path]:
    return [path for app in PRODUCT for path in sorted((ROOT / app).rglob("*.py"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_import_rules_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_gateway_imports_stripe():
    """Inline imports and imports of its parts included."""
    importers = set()
    for path in modules():
        for node in ast.walk(ast.parse(text_of(path))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            if any(name.split(".")[0] == "stripe" for name in names):
                importers.add(str(path.relative_to(ROOT).parent))
    assert importers == {"payments/stripe_gateway"}


def test_no_module_is_named_for_nothing():
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "services", "signals", "constants"}
    assert [path for path in modules() if path.stem in nothing] == []


def test_no_patch_of_the_database_and_no_other_database():
    """Tests run on the real PostgreSQL; SQLite appears only where it is refused."""
    assert settings.DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql"


def test_statuses_are_moved_by_the_state_machine_alone():
    """No `.status = …` and no `update(status=…)` in the product, but in the state machine itself."""
    for path in modules():
        if path == ROOT / "config/state_machine.py" or "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(text_of(path))):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                is_status = isinstance(target, ast.Attribute) and target.attr == "status"
                is_own = (
                    is_status and isinstance(target.value, ast.Name) and target.value.id == "self"
                )  # an exception's
                assert is_own or not is_status, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
                written = {keyword.arg for keyword in node.keywords}
                is_ours = path.is_relative_to(ROOT / "ticketing/admin")  # an event's status is staff's to set
                assert "status" not in written or is_ours, f"{path}:{node.lineno}"


def referenced_templates() -> set[str]:
    """Names in strings of our Python, and in include and extends of our templates."""
    named: set[str] = set()
    for path in modules():
        for node in ast.walk(ast.parse(text_of(path))):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.endswith((".html", ".txt"))
            ):
                named.add(node.value)
    for path in TEMPLATES.rglob("*.*"):
        named |= set(re.findall(r"""{% (?:include|extends) ["']([^"']+)["']""", text_of(path)))
    for kind in OutgoingEmail.Kind.values:
        named |= {f"emails/{kind}.subject.txt", f"emails/{kind}.txt", f"emails/{kind}.html"}
    return named


def test_no_template_is_unused():
    ours = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.*")}
    assert ours - referenced_templates() - CONVENTIONS == set()


@pytest.mark.parametrize(
    "name", sorted(name for name in referenced_templates() | CONVENTIONS if "/" in name or name in CONVENTIONS)
)
def test_every_template_that_is_named_exists_and_compiles(name):
    assert get_template(name)


def test_the_schema_is_made_without_a_warning(tmp_path):
    schema = tmp_path / "schema.yml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(schema))
    text = schema.read_text()
    for path in (
        "/api/v1/reservations/",
        "/api/v1/reservations/{reservation_id}/checkout/",
        "/api/v1/orders/{code}/status/",
    ):
        assert f"  {path}:" in text


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text_of(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize(
    "document", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda path: path.name
)
def test_what_the_documents_name_exists(document):
    """Targets of make, our modules, and the documents they link to (pictures aside)."""
    text = text_of(document)
    for target in re.findall(r"(?:`|^)make ([a-z][a-z-]+)", text, re.MULTILINE):
        assert target in makefile_targets(), f"make {target}"
    for named in re.findall(
        r"`((?:config|ticketing|reservations|payments|monitoring|deploy|templates|tests)/[\w/.-]*\.\w+)`", text
    ):
        assert (ROOT / named).exists(), named
    for link in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / link).exists(), link


def test_every_target_of_the_makefile_lists_itself():
    text = text_of(ROOT / "Makefile")
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split())
    assert makefile_targets() == phony == set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
