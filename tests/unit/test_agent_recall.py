"""What the agent goes on with when its memory is gone: the models that applications use stay."""

import pytest

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.ids import ReleaseRef
from edgewright.edge_agent.recall import recall
from edgewright.edge_agent.slots import ModelFolder
from edgewright.edge_agent.state import AgentState, ModelState, Slot
from edgewright.edge_agent.storage import Disk, save_state
from edgewright.measurement.artifact import read_manifest


@pytest.fixture(params=list(Slot))
def slot(request):
    return request.param


@pytest.fixture
def folder(tmp_path, make_artifact, slot):
    """A model in use in `slot`, beside a half-written other one."""
    folder = ModelFolder.of(tmp_path / "data", "m", Disk())
    make_artifact(folder.slot(slot), model="m")
    folder.slot(slot.other).mkdir()
    (folder.slot(slot.other) / "manifest.json").write_text("{")
    folder.point(slot)
    return folder


@pytest.fixture
def data(tmp_path, folder):
    return tmp_path / "data"


def assert_taken_over(state, folder, slot):
    (model,) = state.models.values()
    _, digest = read_manifest(folder.stable)
    assert (model.active, set(model.slots), model.held.artifact) == (slot, {slot}, digest)
    assert model.held.release == ReleaseRef("m", "unknown")
    assert (state.gen, model.run) == (0, None)


def test_the_first_start_knows_nothing(tmp_path):
    assert recall(Disk(), tmp_path) == AgentState()


def test_a_saved_state_is_what_counts(data):
    saved = AgentState(gen=7)
    save_state(Disk(), data, saved)
    assert recall(Disk(), data) == saved


def test_without_a_state_the_model_in_use_is_taken_over_from_the_disk(data, folder, slot):
    assert_taken_over(recall(Disk(), data), folder, slot)


@pytest.mark.parametrize(
    "text", [b"", b'{"gen": 3, "models"', b'{"schema": 99}', b'{"models": {"m": {"name": "m", "active": "a"}}}']
)
def test_a_state_that_cannot_be_used_is_set_aside_and_the_model_in_use_is_kept(data, folder, slot, text):
    (data / "state.json").write_bytes(text)
    assert_taken_over(recall(Disk(), data), folder, slot)
    assert not (data / "state.json").exists()
    assert (data / "state.json.unreadable").read_bytes() == text


@pytest.mark.parametrize("damage", ["flip", "remove", "manifest", "dangling"])
def test_a_damaged_model_is_not_taken_over(data, folder, slot, damage):
    root = folder.slot(slot)
    match damage:
        case "flip":
            name = next(path for path in root.iterdir() if path.name != "manifest.json")
            name.write_bytes(bytes([name.read_bytes()[0] ^ 1]) + name.read_bytes()[1:])
        case "remove":
            next(path for path in root.iterdir() if path.name != "manifest.json").unlink()
        case "manifest":
            (root / "manifest.json").write_text("{")
        case "dangling":
            Disk().remove(root)
    assert recall(Disk(), data).models == {"m": ModelState(name="m")}


def test_what_is_no_model_folder_is_left_alone(data, folder):
    (data / "models" / "Not A Model").mkdir()
    (data / "models" / "notes").write_text("x")
    assert set(recall(Disk(), data).models) == {"m"}


def test_a_disk_that_fails_is_not_taken_for_a_lost_state(tmp_path):
    (tmp_path / "state.json").mkdir()
    with pytest.raises(DeviceError) as caught:
        recall(Disk(), tmp_path)
    assert caught.value.code == "disk-failed"
