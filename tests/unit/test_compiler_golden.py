import numpy as np
import pytest

from edgewright.compiler.golden import SLACK, choose_samples, derive_probe
from edgewright.contracts.errors import CompileError
from edgewright.measurement.probe import compare

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(8, 32))
WEIGHTS = RANDOM.normal(size=(32, 10))
EXPECTED = {"y": INPUTS @ WEIGHTS}


def quantized(weights: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of the layer with its weights rounded to int8."""
    step = np.abs(weights).max() / 127
    return {"y": INPUTS @ (np.round(weights / step) * step)}


@pytest.mark.parametrize("precision", sorted(SLACK))
def test_what_the_built_artifact_showed_passes(precision):
    shown = EXPECTED if precision == "fp32" else quantized(WEIGHTS)
    probe = derive_probe(precision, EXPECTED, shown, "here")
    assert compare(probe, EXPECTED, shown).passed


@pytest.mark.parametrize("precision", sorted(SLACK))
def test_an_artifact_with_the_weights_of_another_model_fails(precision):
    shown = EXPECTED if precision == "fp32" else quantized(WEIGHTS)
    probe = derive_probe(precision, EXPECTED, shown, "here")
    # Not a stranger: the same model after a little more training.
    other = WEIGHTS + 0.1 * RANDOM.normal(size=WEIGHTS.shape)
    assert not compare(probe, EXPECTED, quantized(other)).passed


def test_another_rounding_on_the_device_passes():
    shown = quantized(WEIGHTS)
    probe = derive_probe("int8", EXPECTED, shown, "here")
    step = np.abs(EXPECTED["y"]).max() / 127
    device = {"y": shown["y"] + RANDOM.choice([-step, 0, step], size=shown["y"].shape) / 2}
    assert compare(probe, EXPECTED, device).passed


@pytest.mark.parametrize("precision", sorted(SLACK))
@pytest.mark.parametrize(
    "spoil", [np.zeros_like, np.negative, np.roll, lambda y: y * 3], ids=["zeros", "negated", "rolled", "scaled"]
)
def test_a_wrong_build_is_refused(precision, spoil):
    wrong = np.roll(EXPECTED["y"], 1, axis=0) if spoil is np.roll else spoil(EXPECTED["y"])
    with pytest.raises(CompileError) as caught:
        derive_probe(precision, EXPECTED, {"y": wrong}, "for a-board")
    assert caught.value.code == "probe-out-of-tolerance"
    assert "a-board" in caught.value.what


def test_an_error_far_above_the_one_shown_fails():
    expected = {"y": np.linspace(5, 10, 8)[:, None]}
    probe = derive_probe("int8", expected, {"y": expected["y"] + 0.2}, "here")
    assert compare(probe, expected, {"y": expected["y"] - 0.4}).passed
    assert not compare(probe, expected, {"y": expected["y"] - 2}).passed


def test_tolerances_never_exceed_what_the_precision_explains():
    slack = SLACK["int8"]
    scale = np.abs(EXPECTED["y"]).max()
    far = {"y": EXPECTED["y"] + 0.3 * scale * RANDOM.choice([-1, 1], size=EXPECTED["y"].shape) * 0.5}
    probe = derive_probe("int8", EXPECTED, far, "here")
    assert probe.atol <= slack.max_error * scale


def test_a_single_output_may_cross_zero():
    """One number has no direction but its sign, which a rounding step can turn."""
    expected = {"y": np.array([[10.0], [-8.0], [0.01]])}
    probe = derive_probe("int8", expected, {"y": np.array([[10.1], [-8.1], [-0.04]])}, "here")
    assert compare(probe, expected, {"y": np.array([[9.9], [-7.9], [0.04]])}).passed
    assert not compare(probe, expected, {"y": np.array([[-8.0], [10.0], [0.01]])}).passed


def test_outputs_of_zeros_have_a_probe_too():
    zeros = {"y": np.zeros((8, 10))}
    assert compare(derive_probe("fp32", zeros, zeros, "here"), zeros, zeros).passed


def test_samples_are_spread_over_the_data_and_few():
    chosen = choose_samples({"x": np.arange(100.0)[:, None]})["x"]
    assert len(chosen) == 8
    assert (chosen[0, 0], chosen[-1, 0]) == (0, 99)


def test_large_samples_are_fewer_but_never_none():
    assert len(choose_samples({"x": np.zeros((20, 50_000), np.float64)})["x"]) == 2
    assert len(choose_samples({"x": np.zeros((20, 500_000), np.float32)})["x"]) == 1
    assert len(choose_samples({"x": np.zeros((3, 4), np.float32)})["x"]) == 3
