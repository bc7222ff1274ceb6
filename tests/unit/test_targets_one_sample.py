"""What callers of a session may hand in."""

from __future__ import annotations

import numpy as np
import pytest

from edgewright.contracts.errors import UserError
from edgewright.contracts.manifest import TensorSpec
from edgewright.targets.one_sample import check_inputs, check_tensor

SPECS = (
    TensorSpec(name="image", dtype="float32", shape=(-1, 3, 4, 4)),
    TensorSpec(name="length", dtype="int64", shape=(-1,)),
)


def inputs(count: int = 2) -> dict[str, np.ndarray]:
    return {"image": np.zeros((count, 3, 4, 4), np.float32), "length": np.zeros(count, np.int64)}


def test_right_inputs_are_counted_in_any_order() -> None:
    given = inputs(5)
    assert check_inputs(SPECS, given) == 5
    assert check_inputs(SPECS, dict(reversed(given.items()))) == 5


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"image": np.zeros((2, 4, 4, 3), np.float32)}, "shape"),
        ({"image": np.zeros((3, 4, 4), np.float32)}, "shape"),
        ({"image": np.zeros((0, 3, 4, 4), np.float32), "length": np.zeros(0, np.int64)}, "shape"),
        ({"image": np.zeros((2, 3, 4, 4), np.float64)}, "type"),
        ({"length": np.zeros(2, np.int32)}, "type"),
        ({"length": np.zeros(3, np.int64)}, "numbers of samples"),
        ({"mask": np.zeros(2)}, "names"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, np.ndarray], what: str) -> None:
    with pytest.raises(UserError, match=what) as raised:
        check_inputs(SPECS, inputs() | change)
    assert raised.value.code == "input-mismatch"


def test_missing_input_is_refused() -> None:
    with pytest.raises(UserError) as raised:
        check_inputs(SPECS, {"image": inputs()["image"]})
    assert raised.value.expected == "image, length"
    assert raised.value.found == "image"


def test_file_may_hold_narrower_integers_but_no_other_kind() -> None:
    check_tensor(SPECS[1], "int32", (1,))
    with pytest.raises(ValueError, match="float32"):
        check_tensor(SPECS[1], "float32", (1,))
