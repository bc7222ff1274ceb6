import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes.equalize import EQUALIZE, Config, find_pairs
from edgewright.compiler.passes.model_pass import Budget, PassContext, PassResult, TorchModel
from edgewright.compiler.torch_graph import trace
from edgewright.contracts.errors import CompileError, UserError
from edgewright.hardware_profiles.schema import get_profile

IMAGES = np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32)


def context():
    data = Dataset({"x": IMAGES}, None, named=True, origin="test")
    return PassContext(
        train=None,
        selection=None,
        calibration=data,
        score=lambda module, data: 0.0,
        profile=get_profile("x86-64-avx512-vnni"),
        seed=0,
        budget=Budget(),
        progress=lambda *a: None,
    )


def model(module, samples=IMAGES):
    return TorchModel(module.eval().requires_grad_(False), {"x": samples[:1]})


def run(module, samples=IMAGES):
    source = model(module, samples)
    result = EQUALIZE.run(source, Config(), context())
    EQUALIZE.ensures(source, result, Config(), context())
    return result


def outputs(module, samples=IMAGES):
    with torch.inference_mode():
        return module(torch.from_numpy(samples))


def makers(module, samples=IMAGES):
    return [pair.maker for pair in find_pairs(trace(model(module, samples)))]


def disturbed(norm):
    """A BatchNorm as training leaves it, with channels of very different scales."""
    with torch.no_grad():
        norm.weight.copy_(10 ** torch.linspace(-2, 2, norm.num_features))
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


class Everything(nn.Module):
    """What a scale passes through: BatchNorm, depthwise and grouped convolutions, pooling, padding, flattening."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), disturbed(nn.BatchNorm2d(8)), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.grouped = nn.Conv2d(8, 12, 1, groups=4)
        self.plain = nn.Conv2d(12, 6, 3)
        self.fc1, self.fc2 = nn.Linear(6 * 2 * 2, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.depthwise(self.stem(x)))
        x = nn.functional.pad(torch.relu(self.grouped(x)), (1, 1, 1, 1))
        x = nn.functional.max_pool2d(torch.relu(self.plain(x)), 3)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def test_the_function_is_kept_through_all_kinds_of_layers_and_the_given_module_is_left_alone():
    torch.manual_seed(0)
    module = Everything()
    before = copy.deepcopy(module.state_dict())
    result = run(module)
    assert result.figures["equalized_pairs"] == 5
    assert result.figures["largest_factor"] > 10
    torch.testing.assert_close(outputs(result.module), outputs(module), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not result.findings


def test_channels_of_very_different_ranges_become_alike():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        module[0].weight[3] *= 100
        module[0].bias[3] *= 100
        module[2].weight[:, 3] /= 100
    spread = [
        float(ranges.max() / ranges.median())
        for module in (module, run(module).module)
        for ranges in [outputs(module[:2]).abs().amax((0, 2, 3))]
    ]
    assert spread[0] > 50
    assert spread[1] < 4


def test_a_maker_and_its_reader_end_with_equal_ranges():
    torch.manual_seed(0)
    module = run(nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))).module
    made = module[0].weight.abs().flatten(1).amax(1)
    read = module[2].weight.abs().amax((0, 2, 3))
    torch.testing.assert_close(made, read)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.left, self.right = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        x = x + self.b(torch.relu(self.a(x)))  # b is added to something that is not scaled
        x = torch.relu(self.c(x))  # two layers read c
        return self.left(x), self.right(x)


def test_channels_that_an_addition_reads_are_left_alone_and_several_readers_share_a_scale():
    torch.manual_seed(0)
    module = Branches()
    assert makers(module) == ["a", "c"]
    result = run(module)
    for ours, theirs in zip(outputs(result.module), outputs(module), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.twice = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.twice(torch.relu(self.twice(torch.relu(self.a(x)))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.c.weight

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


@pytest.mark.parametrize(
    "module",
    [
        Shared(),
        Tied(),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Conv2d(4, 4, 1)),
    ],
    ids=["called-twice", "tied", "gelu", "relu6", "batch-norm-without-scale"],
)
def test_what_a_scale_does_not_pass_through_is_left_alone_and_told(module):
    assert makers(module) == []
    result = run(module)
    assert torch.equal(outputs(result.module), outputs(module))
    assert [finding.code for finding in result.findings] == ["nothing-to-equalize"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.fc2(torch.relu(self.fc1(self.norm2(x))))


def test_a_layer_norm_takes_the_scale_of_the_linear_layers_that_read_it():
    torch.manual_seed(0)
    module, samples = Block(), np.random.default_rng(0).normal(size=(4, 5, 8)).astype(np.float32)
    with torch.no_grad():
        module.norm1.weight[3] *= 50
        module.attention.in_proj_weight[:, 3] /= 50
    assert makers(module, samples) == ["norm1", "norm2", "fc1"]
    result = run(module, samples)
    torch.testing.assert_close(outputs(result.module, samples), outputs(module, samples), rtol=1e-4, atol=1e-5)
    assert result.module.norm1.weight.abs().max() < 10


def test_an_exported_program_is_equalized_too(tmp_path):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 8, 1), disturbed(nn.BatchNorm2d(8)), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    program = torch.export.export(plain, (torch.from_numpy(IMAGES),), dynamic_shapes=({0: torch.export.Dim("n")},))
    module = program.module(check_guards=False)
    source = TorchModel(module.requires_grad_(False), {"x": IMAGES[:1]})
    result = EQUALIZE.run(source, Config(), context())
    EQUALIZE.ensures(source, result, Config(), context())
    assert result.figures["largest_factor"] > 5
    torch.testing.assert_close(outputs(result.module), outputs(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_a_module_that_computes_something_else_is_not_let_through(factor):
    source = model(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    changed = copy.deepcopy(source.module)
    changed[0].weight *= factor
    with pytest.raises(CompileError) as caught:
        EQUALIZE.ensures(source, PassResult(changed), Config(), context())
    assert caught.value.code == "equalize-changed-the-model"


def test_no_rounds_are_refused():
    with pytest.raises(UserError) as caught:
        EQUALIZE.requires(model(Shared()), Config(rounds=0), context())
    assert caught.value.code == "pass-option-range"
