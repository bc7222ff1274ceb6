"""Third-party calls: nothing heard, nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from edgewright.contracts.errors import CompileError
from edgewright.targets.quiet import Quiet, ThirdPartyError, quiet, require


def test_nothing_is_heard_of_a_call_but_what_is_said_aloud() -> None:
    program = """
import ctypes, os, sys
from edgewright.targets.quiet import quiet
print("before")
with quiet() as section:
    print("python"); os.write(1, b"descriptor\\n"); ctypes.CDLL(None).puts(b"native"); sys.stderr.write("error\\n")
    section.aloud(print)("aloud")
    os.write(2, b"again\\n")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "aloud", "after"]
    assert done.stderr == ""


def test_failure_carries_the_cause_and_the_end_of_what_was_written() -> None:
    def fail() -> None:
        os.write(2, b"".join(b"line %d\n" % i for i in range(100)) + b"\x1b[31mred\x1b[0m\n")
        raise KeyError("layer")

    with pytest.raises(ThirdPartyError) as raised, quiet():
        fail()
    assert isinstance(raised.value.cause, KeyError)
    assert raised.value.found.splitlines() == ["KeyError: 'layer'", *(f"| line {i}" for i in range(95, 100)), "| red"]


def test_errors_of_our_own_tree_pass_as_they_are() -> None:
    error = CompileError("lower-failed", "a reason")
    with pytest.raises(CompileError) as raised, quiet():
        raise error
    assert raised.value is error


def test_interrupt_passes_and_gives_the_streams_back() -> None:
    before = os.fstat(1), os.fstat(2)
    with pytest.raises(KeyboardInterrupt), quiet():
        raise KeyboardInterrupt
    assert (os.fstat(1), os.fstat(2)) == before


def test_streams_are_back_while_aloud_even_when_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(1, b"heard\n")
        raise RuntimeError("callback")

    def call_it(section: Quiet) -> None:
        try:
            section.aloud(fail)()
        finally:
            os.write(1, b"not heard\n")

    with pytest.raises(ThirdPartyError), quiet() as section:
        call_it(section)
    assert capfd.readouterr().out == "heard\n"


def test_no_descriptor_is_leaked() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = count()
    for _ in range(5):
        with quiet():
            pass
    assert count() == before


def test_their_warnings_are_theirs() -> None:
    with quiet():
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)


def test_missing_package_is_named() -> None:
    require("json", "edgewright")
    with pytest.raises(ModuleNotFoundError) as raised:
        require("json", "edgewright_has_no_such_package")
    assert raised.value.name == "edgewright_has_no_such_package"
