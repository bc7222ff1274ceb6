import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.contracts.errors import ArtifactError
from edgewright.contracts.manifest import GoldenProbe
from edgewright.measurement import frames
from edgewright.measurement.probe import compare, read_probe, write_probe

PROBE = GoldenProbe(path="probe.npz", samples=2, atol=0.1, rtol=0.01, min_cosine=0.99)
EXPECTED = {"y": np.array([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]], np.float32)}


def verdict(**changes) -> bool:
    actual = EXPECTED["y"].copy()
    for place, value in changes.items():
        actual[int(place[1]), int(place[2])] = value
    return compare(PROBE, EXPECTED, {"y": actual}).passed


def test_outputs_within_tolerance_pass():
    assert verdict()
    assert verdict(_00=1.1)
    assert verdict(_02=3.12)  # 0.1 + 1 % of 3


def test_one_element_beyond_tolerance_fails():
    assert not verdict(_00=1.12)


def test_nan_and_infinity_fail():
    assert not verdict(_01=np.nan)
    assert not verdict(_01=np.inf)


def test_a_sample_that_points_elsewhere_fails_although_every_element_is_close():
    probe = GoldenProbe(path="p", samples=1, atol=1, rtol=0, min_cosine=0.99)
    result = compare(probe, {"y": np.array([[0.5, 0.0]])}, {"y": np.array([[0.0, 0.5]])})
    assert not result.passed
    assert result.min_cosine == 0


@pytest.mark.parametrize("actual", [{}, {"y": np.zeros((2, 4))}, {"z": EXPECTED["y"]}])
def test_missing_or_misshapen_output_fails_and_is_named(actual):
    result = compare(PROBE, EXPECTED, actual)
    assert not result.passed
    assert "'y'" in result.detail


def test_probe_reads_back_and_equal_probes_have_equal_bytes(tmp_path):
    inputs = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b.c": np.ones((2, 1), np.float32)}
    for name in ("1.npz", "2.npz"):
        write_probe(tmp_path / name, inputs, EXPECTED)
    got_inputs, got_outputs = read_probe(tmp_path / "1.npz")
    assert {name: array.tolist() for name, array in got_inputs.items()} == {k: v.tolist() for k, v in inputs.items()}
    assert got_outputs["y"].tolist() == EXPECTED["y"].tolist()
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"not a zip"])
def test_unreadable_probe_has_a_code(tmp_path, data):
    (tmp_path / "p.npz").write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        read_probe(tmp_path / "p.npz")
    assert caught.value.code == "probe-unreadable"


@given(
    st.sampled_from(["float32", "int8", "uint8", "int64", "float16", "bool"]),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
)
def test_arrays_travel_unchanged(dtype, shape):
    array = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
    request = frames.decode_request(
        frames.msgspec.msgpack.encode(frames.Infer(frames.pack({"x": array[::-1] if shape else array})))
    )
    (got,) = frames.unpack(request.inputs).values()
    assert got.dtype == array.dtype
    assert got.tolist() == (array[::-1] if shape else array).tolist()
