import errno

import pytest
from agent_world import digest
from disks import failing_disk

from edgewright.contracts.errors import DeviceError
from edgewright.edge_agent.slots import ModelFolder
from edgewright.edge_agent.state import AgentState, Slot
from edgewright.edge_agent.storage import Disk, load_state, locked, save_state

OLD, NEW = AgentState(gen=1), AgentState(gen=2)


def steps_of(action):
    counter = failing_disk(at=0)
    action(counter)
    return range(1, counter.steps + 1)


def test_a_state_that_cannot_be_saved_leaves_the_old_or_the_new_one(tmp_path):
    seen = set()
    for step in steps_of(lambda disk: save_state(disk, tmp_path, OLD)):
        save_state(Disk(), tmp_path, OLD)
        with pytest.raises(DeviceError) as caught:
            save_state(failing_disk(step), tmp_path, NEW)
        assert caught.value.code == "disk-full"
        seen.add(load_state(tmp_path).gen)
        save_state(Disk(), tmp_path, NEW)
        assert load_state(tmp_path) == NEW
    assert seen == {1, 2}


def test_a_disk_that_fails_otherwise_is_told_apart_from_a_full_one(tmp_path):
    with pytest.raises(DeviceError) as caught:
        save_state(failing_disk(1, errno.EIO), tmp_path, NEW)
    assert caught.value.code == "disk-failed"


def test_the_first_start_has_a_fresh_state(tmp_path):
    assert load_state(tmp_path) == AgentState()


@pytest.mark.parametrize("text", [b"", b"{}}", b'{"gen": "x"}', b"\xff\xfe", b"[]"])
def test_a_state_that_cannot_be_read_is_kept_and_said(tmp_path, text):
    (tmp_path / "state.json").write_bytes(text)
    with pytest.raises(DeviceError) as caught:
        load_state(tmp_path)
    assert caught.value.code == "state-unreadable"
    assert (tmp_path / "state.json").read_bytes() == text


def test_a_state_of_another_schema_is_refused(tmp_path):
    (tmp_path / "state.json").write_bytes(b'{"schema": 99}')
    with pytest.raises(DeviceError) as caught:
        load_state(tmp_path)
    assert caught.value.code == "state-schema-unknown"


def test_a_second_agent_on_the_same_data_is_refused_and_a_later_one_is_not(tmp_path):
    data = tmp_path / "data"
    with locked(data), pytest.raises(DeviceError) as caught, locked(data):
        pass
    assert caught.value.code == "data-in-use"
    with locked(data):
        pass


def prepared(root):
    folder = ModelFolder(root, Disk())
    for slot in Slot:
        folder.slot(slot).mkdir(parents=True, exist_ok=True)
        (folder.slot(slot) / "manifest.json").write_text(slot)
    folder.point(Slot.A)
    return folder


def test_a_switch_that_fails_anywhere_leaves_one_of_the_two_and_can_be_done_again(tmp_path):
    root = tmp_path / "m"
    folder = prepared(root)
    seen = set()
    for step in steps_of(lambda disk: ModelFolder(root, disk).point(Slot.B)):
        folder.point(Slot.A)
        with pytest.raises(DeviceError):
            ModelFolder(root, failing_disk(step)).point(Slot.B)
        seen.add((root / "current" / "manifest.json").read_text())
        folder.point(Slot.B)
        assert (root / "current" / "manifest.json").read_text() == "b"
    assert seen == {"a", "b"}


def test_pointing_to_nothing_removes_the_stable_path_alone(tmp_path):
    folder = prepared(tmp_path / "m")
    folder.point(None)
    assert not folder.stable.is_symlink()
    assert folder.slot(Slot.A).is_dir()
    folder.point(None)


def stage_again(root, digest):
    folder = prepared(root)
    incoming = folder.incoming(digest)
    incoming.mkdir(parents=True, exist_ok=True)
    (incoming / "manifest.json").write_text("new")
    return folder


def test_staging_that_fails_anywhere_spares_the_active_slot_and_can_be_done_again(tmp_path):
    new, root = digest("new"), tmp_path / "m"
    stage_again(root, new)
    for step in steps_of(lambda disk: ModelFolder(root, disk).stage(new, Slot.B)):
        folder = stage_again(root, new)
        with pytest.raises(DeviceError):
            ModelFolder(root, failing_disk(step)).stage(new, Slot.B)
        assert (root / "current" / "manifest.json").read_text() == "a"
        folder.stage(new, Slot.B)
        assert folder.held(Slot.B) == new
        assert not (root / "incoming").exists()


def test_the_active_slot_is_never_written(tmp_path):
    folder = stage_again(tmp_path / "m", digest("new"))
    with pytest.raises(DeviceError) as caught:
        folder.stage(digest("new"), Slot.A)
    assert caught.value.code == "slot-in-use"
    assert (folder.stable / "manifest.json").read_text() == "a"


def test_staging_what_was_never_downloaded_is_an_error(tmp_path):
    with pytest.raises(DeviceError) as caught:
        prepared(tmp_path / "m").stage(digest("never"), Slot.B)
    assert caught.value.code == "artifact-missing"
