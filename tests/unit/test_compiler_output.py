import errno
import os
import shutil
from pathlib import Path

import pytest

from edgewright.compiler.output import check_free, staged
from edgewright.contracts.errors import CompileError, UserError


def entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def write(out: Path, fail: BaseException | None = None) -> None:
    with staged(out) as (result, work):
        (result / "board").mkdir()
        (result / "board" / "model.bin").write_text("model")
        (work / "intermediate").write_text("large")
        if fail is not None:
            raise fail


@pytest.mark.parametrize("out", ["out", "a/b/out"])
def test_the_folder_appears_whole_and_alone(tmp_path, out):
    write(tmp_path / out)
    assert entries(tmp_path / out) == ["board", "board/model.bin"]
    assert [path.name for path in (tmp_path / out).parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert entries(tmp_path) == ["out", "out/board", "out/board/model.bin"]


def test_a_relative_path_in_the_current_folder_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("out"))
    assert entries(tmp_path) == ["out", "out/board", "out/board/model.bin"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(143), UserError("x", "x"), OSError(errno.EIO, "x")]
)
@pytest.mark.parametrize("out", ["out", "a/b/out"])
def test_an_error_leaves_nothing_and_passes(tmp_path, error, out):
    with pytest.raises(type(error)) as caught:
        write(tmp_path / out, error)
    assert caught.value is error
    assert entries(tmp_path) == []


def test_an_error_leaves_an_empty_folder_as_it_was(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="x"):
        write(tmp_path / "out", ValueError("x"))
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(tmp_path, code):
    with pytest.raises(CompileError) as caught:
        write(tmp_path / "out", OSError(code, os.strerror(code)))
    assert caught.value.code == "disk-full"
    assert caught.value.exit_status == 4
    assert entries(tmp_path) == []


def test_a_full_disk_behind_another_error_is_told_as_such(tmp_path):
    def fail() -> None:
        with staged(tmp_path / "out"):
            try:
                raise OSError(errno.ENOSPC, "no space")
            except OSError as error:
                raise CompileError("package-failed", "could not write") from error

    with pytest.raises(CompileError) as caught:
        fail()
    assert caught.value.code == "disk-full"


def test_a_toolchain_that_hides_the_cause_is_seen_through(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(CompileError) as caught:
        write(tmp_path / "out", RuntimeError("cannot serialize"))
    assert caught.value.code == "disk-full"


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(UserError) as caught:
        write(tmp_path / "out")
    assert caught.value.code == "out-not-empty"
    assert "mine" in str(caught.value.found)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")], ids=["file", "dangling-link"])
def test_what_is_no_folder_is_refused(tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(UserError) as caught:
        check_free(tmp_path / "out")
    assert caught.value.code == "out-not-empty"


def test_the_current_folder_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check_free(Path())
    assert caught.value.code == "out-not-writable"
    assert caught.value.found == "the current folder"


def test_a_mount_point_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path)
    with pytest.raises(UserError) as caught:
        check_free(tmp_path)
    assert caught.value.found == "a mount point"


def test_something_that_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out"

    def race() -> None:
        with staged(out) as (result, _):
            (result / "ours").touch()
            out.mkdir()
            (out / "theirs").touch()

    with pytest.raises(UserError) as caught:
        race()
    assert caught.value.code == "out-not-empty"
    assert entries(tmp_path) == ["out", "out/theirs"]


def test_a_parent_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        write(tmp_path / "file" / "out")
    assert caught.value.code == "out-not-writable"
