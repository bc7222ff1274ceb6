"""What every object store must do. To test another store, add it to `STORES`."""

import errno
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.contracts.errors import ArtifactError, DeviceError, EdgewrightError, NotFound
from edgewright.contracts.ids import Digest, digest_of
from edgewright.registry.folder_store import FolderStore
from edgewright.registry.store import ObjectStore

STORES: Mapping[str, Callable[[Path], ObjectStore]] = {"folder": lambda root: FolderStore(root / "objects")}
DATA = bytes(range(256)) * 10
DIGEST = digest_of(DATA)


@pytest.fixture(params=STORES)
def store(request, tmp_path) -> ObjectStore:
    return STORES[request.param](tmp_path)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_what_was_put_comes_back(store):
    assert store.put(DIGEST, [DATA[:100], b"", DATA[100:]]) == len(DATA)
    assert store.exists(DIGEST)
    assert store.size(DIGEST) == len(DATA)
    assert b"".join(store.open(DIGEST)) == DATA


def test_the_empty_blob_is_a_blob(store):
    store.put(digest_of(b""), [])
    assert b"".join(store.open(digest_of(b""))) == b""


def test_putting_twice_changes_nothing(store):
    for _ in range(2):
        store.put(DIGEST, [DATA])
    assert b"".join(store.open(DIGEST)) == DATA


@pytest.mark.parametrize("sent", [DATA[:-1], DATA + b"x", b""])
def test_other_bytes_than_the_digest_says_are_refused_and_not_kept(store, sent):
    with pytest.raises(ArtifactError) as caught:
        store.put(DIGEST, [sent])
    assert caught.value.code == "digest-mismatch"
    assert not store.exists(DIGEST)


def test_wrong_bytes_do_not_harm_what_is_there(store):
    store.put(DIGEST, [DATA])
    with pytest.raises(ArtifactError):
        store.put(DIGEST, [b"other"])
    assert b"".join(store.open(DIGEST)) == DATA


def test_an_upload_that_breaks_off_leaves_nothing(store):
    def broken():
        yield DATA[:10]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.put(DIGEST, broken())
    assert not store.exists(DIGEST)


def test_a_digest_that_is_not_there_is_named(store):
    for read in (store.size, lambda digest: list(store.open(digest))):
        with pytest.raises(NotFound) as caught:
            read(DIGEST)
        assert caught.value.code == "blob-unknown"
        assert DIGEST in str(caught.value)
    assert not store.exists(DIGEST)


def test_a_name_that_is_no_digest_never_becomes_a_path(store):
    with pytest.raises(EdgewrightError) as caught:
        store.put(Digest("sha256:../../../../etc/passwd"), [b""])
    assert caught.value.code in ("digest-malformed", "digest-mismatch")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(DATA)), stop=st.none() | st.integers(0, len(DATA) + 5))
def test_a_range_is_the_slice(store, start, stop):
    store.put(DIGEST, [DATA])
    assert b"".join(store.open(DIGEST, start, stop)) == DATA[start:stop]


def test_many_threads_may_put_the_same(store):
    threads = [threading.Thread(target=store.put, args=(DIGEST, [DATA])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(store.open(DIGEST)) == DATA


def test_the_folder_store_keeps_nothing_of_a_refused_upload(tmp_path):
    store = FolderStore(tmp_path)
    with pytest.raises(ArtifactError):
        store.put(DIGEST, [b"other"])
    assert files(tmp_path) == []


def test_the_folder_store_sweeps_what_a_killed_process_left(tmp_path):
    FolderStore(tmp_path)
    (tmp_path / ".incoming/half").write_bytes(b"half")
    FolderStore(tmp_path)
    assert files(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    def until_full():
        yield DATA
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DeviceError) as caught:
        FolderStore(tmp_path).put(DIGEST, until_full())
    assert caught.value.code == "store-full"
    assert str(tmp_path) in str(caught.value)
    assert files(tmp_path) == []
