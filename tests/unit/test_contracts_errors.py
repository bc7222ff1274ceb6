import pickle
import re
from pathlib import Path

import pytest

from edgewright.contracts import errors
from edgewright.contracts.errors import ArtifactError, EdgewrightError, GoalsNotMet, TransportError, UserError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EdgewrightError)]


def test_message_says_what_was_expected_found_and_next():
    text = str(UserError("some-code", "it failed", expected="a", found="b", next_step="c"))
    assert text.splitlines() == ["error[some-code]: it failed", "  expected: a", "  found:    b", "  next:     c"]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_survives_a_process_border(cls):
    error = cls("some-code", "it failed", expected="a", found="b", next_step="c")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.to_dict() == error.to_dict()


@pytest.mark.parametrize(
    ("cls", "status"),
    [(UserError, 2), (ArtifactError, 2), (GoalsNotMet, 3), (errors.CompileError, 4), (TransportError, 5)],
)
def test_exit_statuses_are_the_documented_ones(cls, status):
    assert cls("some-code", "it failed").exit_status == status


def raised_codes() -> set[str]:
    """Every literal code that the sources raise one of our errors with."""
    pattern = re.compile(r"\b(?:" + "|".join(cls.__name__ for cls in CLASSES) + r')\(\s*f?"([^"]+)"')
    folders = (
        "contracts",
        "hardware_profiles",
        "kernels",
        "measurement",
        "targets",
        "compiler",
        "registry",
        "edge_agent",
    )
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")] + [ROOT / "src/edgewright/cli.py"]
    return {code for path in files for code in pattern.findall(path.read_text()) if "{" not in code}


def test_every_code_is_in_the_documentation():
    documented = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    raised = raised_codes()
    assert raised - documented == set()
    assert len(raised) > 20


def test_every_code_is_kebab_case():
    assert [code for code in raised_codes() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []
