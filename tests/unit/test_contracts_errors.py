import pickle
import re
import subprocess
import sys
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


def test_documented_codes_are_those_the_sources_raise():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/make_errors.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_code_is_kebab_case():
    codes = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(codes) > 100
    assert [code for code in codes if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []
