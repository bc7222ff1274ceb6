from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgewright.compiler.data import load_data, match_inputs, take
from edgewright.compiler.recipe import CallableRef, CallableSource, ImageSource, NpzSource
from edgewright.compiler.user_code import importable
from edgewright.contracts.errors import CompileError, UserError

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.arange(6)


def npz(folder: Path, inputs=("x",), target: str | None = "y", **arrays):
    np.savez(folder / "data.npz", **arrays)
    return load_data(NpzSource(folder / "data.npz", inputs, target), folder, "calibrate")


def called(folder: Path, body: str):
    """What the user's function with this body gives."""
    (folder / "user_data.py").write_text(
        f"import numpy as np\nX = np.arange(24.).reshape(6, 4)\nY = np.arange(6)\ndef data():\n    {body}\n"
    )
    with importable(folder):
        return load_data(CallableSource(CallableRef("user_data", "data")), folder, "evaluate")


def refused(function, *args, **kwargs) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return caught.value


def test_npz_gives_inputs_by_name_and_the_target(tmp_path):
    data = npz(tmp_path, x=X, y=Y)
    assert list(data.inputs) == ["x"]
    assert (data.inputs["x"] == X).all()
    assert (data.target == Y).all()
    assert len(data) == 6


def test_inputs_come_in_the_order_of_the_recipe(tmp_path):
    assert list(npz(tmp_path, inputs=("b", "a"), target=None, a=X, b=X).inputs) == ["b", "a"]


def test_float64_becomes_float32_and_whole_numbers_stay(tmp_path):
    data = npz(tmp_path, inputs=("x", "ids"), target=None, x=X.astype(np.float64), ids=X.astype(np.int64))
    assert [array.dtype.name for array in data.inputs.values()] == ["float32", "int64"]


@pytest.mark.parametrize(
    "body",
    [
        "return {'input_0': X, 'target': Y}",
        "return [{'input_0': X[:4], 'target': Y[:4]}, {'input_0': X[4:], 'target': Y[4:]}]",
        "return X, Y",
        "return [(X[:4], Y[:4]), (X[4:], Y[4:])]",
        "yield X[:4], Y[:4]; yield X[4:], Y[4:]",
        "import torch; return torch.from_numpy(X), torch.from_numpy(Y)",
        "import torch.utils.data as d; from torch import tensor as t; "
        "return d.DataLoader(d.TensorDataset(t(X), t(Y)), batch_size=4)",
    ],
)
def test_every_form_a_function_may_return_gives_the_same_data(tmp_path, body):
    data = called(tmp_path, body)
    assert list(data.inputs) == ["input_0"]
    assert (data.inputs["input_0"] == X).all()
    assert data.inputs["input_0"].dtype == np.float32
    assert data.target is not None
    assert (data.target == Y).all()


def test_batches_without_a_target_are_inputs_alone(tmp_path):
    data = called(tmp_path, "return [X[:3], X[3:]]")
    assert data.target is None
    assert (data.inputs["input_0"] == X).all()


def test_two_inputs_of_a_batch_keep_their_order(tmp_path):
    data = called(tmp_path, "return [(X, 2 * X, Y)]")
    assert (data.inputs["input_1"] == 2 * X).all()


@pytest.mark.parametrize(
    "body",
    [
        "return None",
        "return 3",
        "return 'text'",
        "return X",
        "return {'target': Y}",
        "return {'x': ['a', 'b']}",
        "return {'x': object()}",
        "return [(X, Y), X]",
    ],
)
def test_what_is_no_data_is_malformed(tmp_path, body):
    assert refused(called, tmp_path, body).code == "data-malformed"


def test_batches_of_different_shapes_are_told(tmp_path):
    assert refused(called, tmp_path, "return [(X, Y), (X[:, :2], Y)]").code == "data-shape"


def test_an_error_in_the_users_function_names_its_line(tmp_path):
    with pytest.raises(CompileError) as caught:
        called(tmp_path, "return X / undefined")
    assert caught.value.code == "user-code-failed"
    assert "user_data.py:5" in str(caught.value.next_step)
    assert "NameError" in str(caught.value.found)


def test_a_missing_import_in_the_users_code_names_the_package(tmp_path):
    error = refused(called, tmp_path, "import not_installed_here")
    assert error.code == "user-import-missing"
    assert "not_installed_here" in str(error.expected)


@pytest.mark.parametrize("empty", [X[:0], np.zeros((6, 0), np.float32)])
def test_an_empty_set_is_told(tmp_path, empty):
    assert refused(npz, tmp_path, x=empty, y=Y[: len(empty)]).code == "data-empty"


def test_no_batches_are_an_empty_set(tmp_path):
    assert refused(called, tmp_path, "return []").code == "data-empty"


def test_nan_and_infinity_are_told_with_their_sample(tmp_path):
    for bad in (np.nan, np.inf):
        x = X.copy()
        x[3, 1] = bad
        error = refused(npz, tmp_path, x=x, y=Y)
        assert error.code == "data-not-finite"
        assert "sample 3" in str(error.found)


@pytest.mark.parametrize("arrays", [{"x": X, "y": Y[:5]}, {"x": X, "y": np.array(3)}])
def test_different_lengths_are_told(tmp_path, arrays):
    assert refused(npz, tmp_path, **arrays).code == "data-length-differs"


def test_an_array_without_an_axis_beside_the_samples_is_told(tmp_path):
    assert refused(npz, tmp_path, x=X[:, 0], y=Y).code == "data-shape"


def test_an_array_that_is_not_in_the_file_names_the_nearest(tmp_path):
    error = refused(npz, tmp_path, inputs=("image",), images=X, y=Y)
    assert (error.code, error.next_step) == ("data-malformed", "did you mean 'images'?")


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_npz_is_unreadable(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    assert refused(load_data, NpzSource(path, ("x",), None), tmp_path, "calibrate").code == "data-unreadable"


def test_pickled_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}, {"b": 2}], dtype=object), allow_pickle=True)
    source = NpzSource(tmp_path / "data.npz", ("x",), None)
    assert refused(load_data, source, tmp_path, "calibrate").code == "data-unreadable"


def test_evaluation_data_takes_the_calibrations_names(tmp_path):
    calibration = npz(tmp_path, x=X, y=Y)
    evaluation = match_inputs(calibration, called(tmp_path, "return X, Y"))
    assert list(evaluation.inputs) == ["x"]


def test_evaluation_data_takes_the_calibrations_order(tmp_path):
    calibration = npz(tmp_path, inputs=("b", "a"), target=None, a=X, b=X)
    evaluation = match_inputs(calibration, called(tmp_path, "return {'a': X, 'b': 2 * X}"))
    assert list(evaluation.inputs) == ["b", "a"]
    assert (evaluation.inputs["b"] == 2 * X).all()


def test_other_inputs_in_the_evaluation_data_are_told(tmp_path):
    calibration = npz(tmp_path, x=X, y=Y)
    other = called(tmp_path, "return {'image': X, 'target': Y}")
    assert refused(match_inputs, calibration, other).code == "data-inputs-differ"


def test_another_shape_in_the_evaluation_data_is_told(tmp_path):
    calibration = npz(tmp_path, x=X, y=Y)
    other = called(tmp_path, "return {'x': X[:, :2], 'target': Y}")
    error = refused(match_inputs, calibration, other)
    assert error.code == "data-shape"
    assert error.expected == "float32 of shape (samples, 4)"
    assert error.found == "float32 of shape (samples, 2)"


def test_take_keeps_every_input(tmp_path):
    assert {name: len(array) for name, array in take({"a": X, "b": X}, slice(0, 2)).items()} == {"a": 2, "b": 2}


def images(folder: Path, limit: int | None = None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
    source = ImageSource(folder, (2, 3), mean, std, limit)
    return load_data(source, folder, "evaluate")


@pytest.fixture
def folder_of_images(tmp_path) -> Path:
    for label, color in (("cat", (255, 0, 0)), ("dog", (0, 255, 0))):
        (tmp_path / label).mkdir()
        for index in range(3):
            Image.new("RGB", (10, 10), color).save(tmp_path / label / f"{index}.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_an_image_folder_gives_channels_first_and_class_numbers(folder_of_images):
    data = images(folder_of_images)
    pixels = data.inputs["input_0"]
    assert pixels.shape == (6, 3, 2, 3)
    assert pixels[0, :, 0, 0].tolist() == [1, 0, 0]
    assert pixels[5, :, 1, 2].tolist() == [0, 1, 0]
    assert data.target is not None
    assert data.target.tolist() == [0, 0, 0, 1, 1, 1]


def test_images_are_normalized(folder_of_images):
    pixels = images(folder_of_images, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5)).inputs["input_0"]
    assert pixels[0, :, 0, 0].tolist() == [1, -2, -1]


def test_a_limit_takes_images_of_every_class(folder_of_images):
    data = images(folder_of_images, limit=2)
    assert data.target is not None
    assert data.target.tolist() == [0, 1]


def test_a_broken_image_is_named(folder_of_images):
    (folder_of_images / "dog" / "1.png").write_bytes(b"\x89PNG broken")
    error = refused(images, folder_of_images)
    assert error.code == "data-unreadable"
    assert "dog/1.png" in error.what


def test_a_folder_without_images_is_empty(tmp_path):
    assert refused(images, tmp_path).code == "data-empty"
