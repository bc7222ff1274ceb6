import copy
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgewright.compiler.explain.fake_quantize import (
    Range,
    int8_activation,
    int8_weight,
    int32_bias,
    weight_steps,
)
from edgewright.compiler.explain.mixed_precision import mixed_precision_order, planned
from edgewright.compiler.explain.result import FaultKind, LayerSensitivity, Sensitivity
from edgewright.compiler.explain.sensitivity import analyse, plan, prepare
from edgewright.compiler.passes.model_pass import Budget, TorchModel
from edgewright.compiler.torch_graph import trace
from edgewright.contracts.errors import UserError
from edgewright.contracts.findings import Severity

IMAGES = np.random.default_rng(0).normal(size=(96, 4, 8, 8)).astype(np.float32)


class Net(nn.Module):
    """Two residual blocks and a head, BatchNorm calibrated on the samples."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


@pytest.fixture(scope="module")
def healthy():
    torch.manual_seed(0)
    net = Net().train()
    with torch.no_grad():
        for _ in range(60):
            net(torch.from_numpy(IMAGES))
    return net.eval().requires_grad_(False)


def study_of(module, images=IMAGES, **options):
    model = TorchModel(module.eval().requires_grad_(False), {"x": images[:1]})
    return prepare(model, {"x": images}, lambda *a: None, **options)


def analysed(module, images=IMAGES):
    return analyse(study_of(module, images), budget=Budget(), progress=lambda *a: None)


def scaled(net, block, factor):
    """`net` with the channels of blocks.N.conv1 multiplied, and conv2's weights for them divided, by `factor`."""
    net = copy.deepcopy(net)
    part = net.blocks[block]
    part.bn1.weight *= factor
    part.bn1.bias *= factor
    part.conv2.weight /= factor.reshape(1, -1, 1, 1)
    return net


def one_channel(factor, channel):
    factors = torch.ones(16)
    factors[channel] = factor
    return factors


def spiking(net, block, channel):
    """`net` with a channel of blocks.N.conv1 that lets only its few largest values through, much enlarged."""
    net = copy.deepcopy(net)
    part = net.blocks[block]
    seen = []
    handle = part.bn1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    net(torch.from_numpy(IMAGES))
    handle.remove()
    values = seen[0][:, channel].flatten().sort().values
    factor = 60 * seen[0].max() / (values[-1] - values[-7])
    part.bn1.weight[channel] *= factor
    part.bn1.bias[channel] = factor * (part.bn1.bias[channel] - values[-7])
    part.conv2.weight[:, channel] /= factor
    return net


# Rounding


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    low=st.floats(-1e3, 0),
    high=st.floats(0, 1e3),
)
@settings(deadline=None)
def test_an_activation_within_its_range_moves_by_half_a_step_and_one_beyond_to_the_range(values, low, high):
    limits = Range.around(low, high)
    tensor = torch.tensor(values, dtype=torch.float64)
    moved = int8_activation(tensor, limits)
    inside = tensor.clamp(limits.low, limits.high)
    # Zero must be a code, which may shift the range's ends by half a step.
    assert ((moved - inside).abs() <= limits.step * 1.001 + 1e-30).all()
    assert (int8_activation(torch.zeros(1), limits) == 0).all()
    assert len(moved.unique()) <= 256


def test_each_output_channel_of_a_weight_has_its_own_step():
    weight = torch.tensor([[1.0, -0.5], [100.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(weight_steps(weight), torch.tensor([1 / 127, 100 / 127, 1 / 127]))
    assert (int8_weight(weight) - weight).abs().amax(1).tolist() <= [0.5 / 127, 50 / 127, 0.0]


def test_a_bias_that_32_bits_do_not_hold_saturates():
    weight, limits = torch.full((2, 3), 1e-9), Range.around(0, 1)
    bias = int32_bias(torch.tensor([1.0, 1e-6]), limits, weight)
    assert bias[0] < 0.1
    assert bias[1] == pytest.approx(1e-6, rel=1e-3)


# The graph


def test_layers_have_the_paths_of_the_users_module_and_batch_norm_is_folded(healthy):
    traced = trace(TorchModel(healthy, {"x": IMAGES[:1]}))
    assert [layer.path for layer in traced.layers] == [
        "stem.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "head",
    ]  # fmt: skip
    assert not any("batch_norm" in str(node.target) for node in traced.graph.graph.nodes)
    x = torch.from_numpy(IMAGES)
    torch.testing.assert_close(traced.graph(x)[0], healthy(x), rtol=1e-4, atol=1e-5)


def test_attention_and_a_module_called_twice_have_names_too():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            return self.fc(self.fc(self.attention(x, x, x)[0]))

    samples = np.zeros((1, 4, 8), np.float32)
    traced = trace(TorchModel(Twice().eval(), {"x": samples}))
    paths = [layer.path for layer in traced.layers]
    assert paths == ["attention.in_proj_weight", "attention.out_proj", "fc", "fc (call 2)"]
    assert "fc.weight" in traced.shared


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Linear(8, 4), nn.BatchNorm2d(4)),  # which counts another axis than the linear layer
        nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.BatchNorm1d(4, affine=False)),
    ],
    ids=["convolution", "linear-on-images", "linear"],
)
def test_the_graph_computes_what_the_module_does(net):
    torch.manual_seed(0)
    for module in net.eval():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    traced = trace(TorchModel(net, {"x": IMAGES[:1]}))
    x = torch.from_numpy(IMAGES)
    torch.testing.assert_close(traced.graph(x)[0], net(x), rtol=1e-4, atol=1e-5)


# Simulation


def test_a_simulation_without_int8_is_the_model_and_more_int8_is_more_noise(healthy):
    study = study_of(healthy)
    assert study.simulation.sqnr_db({}) > 130
    one = study.simulation.sqnr_db({"head": study.limits["head"]})
    all_of_them = study.simulation.sqnr_db(study.limits)
    assert 25 < all_of_them < one


def test_the_simulated_module_is_one_of_its_own(healthy):
    study = study_of(healthy)
    module = study.simulation.module(study.limits)
    x = torch.from_numpy(IMAGES)
    before = module(x)[0]
    study.simulation.sqnr_db({})
    assert torch.equal(module(x)[0], before)
    assert not torch.allclose(before, healthy(x), rtol=1e-6, atol=1e-6)


# The analysis


def test_a_healthy_network_gets_a_note_and_no_warning(healthy):
    result = analysed(healthy)
    assert result.guilty() == ()
    (finding,) = result.findings()
    assert finding.severity is Severity.INFO
    assert finding.where == result.layers[0].path
    assert {layer.path for layer in result.layers} == set(study_of(healthy).layers)


FAULTS = {
    "outlier": (lambda net: scaled(net, 1, one_channel(100.0, 5)), FaultKind.OUTLIER_CHANNEL, 5),
    "spread": (lambda net: scaled(net, 1, 10 ** torch.linspace(-2, 2, 16)), FaultKind.BADLY_SCALED, None),
    "spikes": (lambda net: spiking(net, 1, 7), FaultKind.SATURATING_ACTIVATION, 7),
}


@pytest.mark.parametrize(("plant", "kind", "channel"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_named_with_its_layer_origin_kind_and_channel(healthy, plant, kind, channel):
    net = plant(healthy)
    before = copy.deepcopy(net.state_dict())
    result = analysed(net)
    layer = result.layers[0]
    assert result.guilty() == (layer,)
    assert layer.path == "blocks.1.conv2"
    assert (layer.fault.kind, layer.fault.origin, layer.fault.channel) == (kind, "blocks.1.conv1", channel)
    assert layer.alone_sqnr_db < 25 < layer.restored_sqnr_db
    assert layer.input_sqnr_db < 25
    (finding,) = result.findings()
    assert (finding.code, finding.severity, finding.where) == ("layer-sensitive", Severity.WARNING, "blocks.1.conv2")
    assert "blocks.1.conv1" in finding.message
    assert "tried" in finding.next_step
    assert result.remedies[0].sqnr_db > result.int8_sqnr_db + 10
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_small_layer_behind_a_fault_is_not_accused(healthy):
    result = analysed(scaled(healthy, 0, one_channel(100.0, 5)))
    assert [layer.path for layer in result.guilty()] == ["blocks.0.conv2"]


def test_two_faults_are_both_named(healthy):
    net = scaled(scaled(healthy, 0, one_channel(100.0, 2)), 1, one_channel(100.0, 5))
    assert {layer.path for layer in analysed(net).guilty()} == {"blocks.0.conv2", "blocks.1.conv2"}


def test_unscaled_inputs_are_told_as_such():
    samples = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    samples[:, 2] *= 1000
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        net[0].weight[:, 2] /= 1000
    fault = analysed(net, samples).layers[0].fault
    assert (fault.kind, fault.origin, fault.channel) == (FaultKind.OUTLIER_CHANNEL, None, 2)
    assert "model's own input" in fault.message
    assert "scale the inputs" in fault.next_step


def test_inputs_with_rare_large_values_in_all_channels_are_told_as_such():
    random = np.random.default_rng(0)
    samples = random.normal(size=(2000, 8)).astype(np.float32)
    samples[random.random(samples.shape) < 0.002] *= 100
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    fault = next(layer.fault for layer in analysed(net, samples).layers if layer.path == "0")
    assert (fault.kind, fault.origin, fault.channel) == (FaultKind.SATURATING_ACTIVATION, None, None)


def test_a_bias_that_overflows_is_named(healthy):
    net = copy.deepcopy(healthy)
    net.blocks[1].bn2.weight[3] = 1e-12  # all but the shift is gone
    net.blocks[1].bn2.bias[3] = 4.0
    fault = next(layer.fault for layer in analysed(net).layers if layer.fault is not None)
    assert (fault.kind, fault.origin, fault.channel) == (FaultKind.BIAS_OVERFLOW, "blocks.1.conv2", 3)


class Joined(nn.Module):
    """Two branches whose channels are joined, one of them a sum, and added to a third."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.other = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 10, 1), nn.Conv2d(4, 10, 1)
        self.skip, self.reader = nn.Conv2d(4, 16, 1), nn.Conv2d(16, 4, 1)
        with torch.no_grad():
            self.other.weight[8] *= 5

    def forward(self, x):
        joined = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x) + self.other(x))], 1)
        return self.reader(joined + self.skip(x))


@pytest.mark.parametrize(("maker", "own", "channel"), [("left", 4, 4), ("right", 2, 8), ("skip", 9, 9)])
def test_a_channel_is_followed_through_additions_and_concatenations(maker, own, channel):
    torch.manual_seed(0)
    net = Joined()
    with torch.no_grad():
        getattr(net, maker).weight[own] *= 200
        net.reader.weight[:, channel] /= 200
    fault = next(layer.fault for layer in analysed(net).layers if layer.path == "reader")
    assert (fault.origin, fault.channel) == (maker, channel)


def test_a_model_that_takes_one_sample_at_a_time_is_analysed():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(4, 4, 3), nn.Linear(4 * 36, 3)

        def forward(self, x):
            return self.fc(torch.relu(self.conv(x)).reshape(1, -1))

    result = analysed(Fixed(), IMAGES[:6])
    assert result.int8_sqnr_db > 20
    assert result.samples == 6


def test_a_last_batch_of_one_sample_is_taken(healthy):
    assert study_of(healthy, IMAGES[:65], samples=65).simulation.sqnr_db({}) > 130


def test_a_model_without_layers_is_refused():
    with pytest.raises(UserError) as caught:
        study_of(nn.ReLU())
    assert caught.value.code == "nothing-to-quantize"


def test_a_fault_that_costs_little_of_the_whole_is_no_guilt(healthy):
    result = analysed(scaled(healthy, 1, one_channel(100.0, 5)))
    guilty, *others = result.layers
    faulty = replace(others[0], fault=guilty.fault, local_sqnr_db=10.0, alone_sqnr_db=result.int8_sqnr_db + 11)
    assert replace(result, layers=(guilty, faulty)).guilty() == (guilty,)
    faulty = replace(faulty, alone_sqnr_db=result.int8_sqnr_db + 9)
    assert replace(result, layers=(guilty, faulty)).guilty() == (guilty, faulty)


# The budget


def test_evaluations_are_as_many_as_planned_and_told(healthy):
    study, told = study_of(healthy), []
    result = analyse(study, budget=Budget(), progress=lambda what, done, total: told.append((done, total)))
    assert result.is_complete
    assert result.evaluations == plan(study)
    assert told == [(done, plan(study)) for done in range(1, plan(study) + 1)]


def test_a_spent_budget_leaves_what_is_known(healthy):
    net = scaled(healthy, 1, one_channel(100.0, 5))
    study = study_of(net)
    spent = Budget(deadline=time.monotonic())
    result = analyse(study, budget=spent, progress=lambda *a: None)
    assert not result.is_complete
    assert result.evaluations == 1
    assert result.layers[0].path == "blocks.1.conv2"
    assert result.layers[0].alone_sqnr_db is None
    assert result.layers[0].fault.kind is FaultKind.OUTLIER_CHANNEL
    assert mixed_precision_order(study, result, budget=spent, progress=lambda *a: None) == ()


# Mixed precision


@pytest.fixture(scope="module")
def two_faults(healthy):
    study = study_of(scaled(scaled(healthy, 0, one_channel(300.0, 2)), 1, one_channel(30.0, 5)))
    return study, analyse(study, budget=Budget(), progress=lambda *a: None)


def test_layers_are_kept_in_float_in_the_order_of_what_they_gain_and_only_those_that_gain(two_faults):
    study, sensitivity = two_faults
    told = []
    order = mixed_precision_order(
        study, sensitivity, budget=Budget(), progress=lambda what, done, total: told.append(done), steps=4
    )
    assert [step.path for step in order[:2]] == ["blocks.0.conv2", "blocks.1.conv2"]
    assert order[1].sqnr_db > 30 > order[0].sqnr_db
    assert order[0].gain_db == pytest.approx(order[0].sqnr_db - sensitivity.int8_sqnr_db)
    assert [step.macs_share for step in order] == sorted(step.macs_share for step in order)
    one = study.layers["blocks.0.conv2"].macs / sum(layer.macs for layer in study.layers.values())
    assert order[0].macs_share == pytest.approx(one)
    assert max(told) <= planned(4)


class AddedNoise:
    """A simulation of layers whose noise adds up."""

    def __init__(self, noise):
        self.noise = noise

    def sqnr_db(self, limits):
        return -10 * np.log10(1e-4 + sum(self.noise[path] for path in limits))


def ordered(noise, macs):
    simulation = AddedNoise(noise)
    layers = {
        path: LayerSensitivity(
            path=path,
            macs=macs[path],
            local_sqnr_db=20,
            input_sqnr_db=20,
            weight_sqnr_db=20,
            alone_sqnr_db=simulation.sqnr_db({path: None}),
        )
        for path in noise
    }
    study = SimpleNamespace(simulation=simulation, limits=dict.fromkeys(noise), layers=layers)
    sensitivity = Sensitivity(
        int8_sqnr_db=simulation.sqnr_db(noise),
        layers=tuple(layers.values()),
        remedies=(),
        samples=1,
        evaluations=1,
        is_complete=True,
    )
    steps = mixed_precision_order(study, sensitivity, budget=Budget(), progress=lambda *a: None)
    return [step.path for step in steps]


def test_a_layer_that_gains_next_to_nothing_stays_in_int8():
    noise = {"a": 1e-1, "b": 1e-2, "c": 1e-6, "d": 1e-6}
    assert ordered(noise, dict.fromkeys(noise, 10)) == ["a", "b"]


def test_a_cheap_layer_goes_before_one_that_gains_little_more_at_a_high_cost():
    noise = {"large": 1e-2, "small": 0.8e-2, "c": 1e-6, "d": 1e-6}
    assert ordered(noise, {"large": 1000, "small": 1, "c": 1, "d": 1}) == ["small", "large"]
    assert ordered(noise, dict.fromkeys(noise, 10)) == ["large", "small"]


def test_the_search_ends_when_the_goal_is_met(two_faults):
    study, sensitivity = two_faults
    asked = []

    def is_enough(module):
        asked.append(module(torch.from_numpy(IMAGES[:2]))[0].shape)
        return True

    order = mixed_precision_order(study, sensitivity, budget=Budget(), progress=lambda *a: None, is_enough=is_enough)
    assert [step.path for step in order] == ["blocks.0.conv2"]
    assert asked == [(2, 5)]


def test_multiplications_are_counted_for_one_sample(healthy):
    layers = study_of(healthy).layers
    assert layers["stem.0"].macs == 8 * 8 * 16 * 4 * 9
    assert layers["head"].macs == 16 * 5
