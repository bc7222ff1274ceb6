import dataclasses
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes import distill
from edgewright.compiler.passes.distill import DISTILL, Config, DistillLoss
from edgewright.compiler.passes.model_pass import Budget, PassContext, PassResult, TorchModel
from edgewright.compiler.training import Batch, Task, Trained, fine_tune
from edgewright.compiler.training.features import pair_layers
from edgewright.contracts.errors import CompileError, UserError
from edgewright.hardware_profiles.schema import load_profiles

FEW = Config(epochs=4, batch_size=32, learning_rate=2e-2)


class Network(nn.Module):
    """Two resolutions; `stem` and `stage` are the last layers of them."""

    def __init__(self, width: int, classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, classes))
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.head(self.stage(self.stem(x)))


class Encoder(nn.Module):
    """Six blocks of tokens of one shape."""

    def __init__(self, inner: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, inner), nn.Linear(inner, 6)) for _ in range(6))
        self.head = nn.Linear(6, 10)
        self.eval().requires_grad_(False)

    def forward(self, x):
        x = self.embed(x.flatten(1, 2))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


def accuracy(module, data) -> float:
    with torch.inference_mode():
        output = module(torch.from_numpy(data.inputs["x"]))
    return float((output.argmax(1).numpy() == data.target).mean())


@pytest.fixture(scope="module")
def context() -> PassContext:
    """Digits, and a teacher that knows them from more samples than the student gets."""
    images, labels = load_digits(return_X_y=True)
    inputs = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
    few, selection, many = (
        Dataset({"x": inputs[part]}, labels[part], named=True, origin="the digits")
        for part in (slice(0, 256), slice(1300, 1797), slice(0, 1300))
    )
    profile = next(iter(load_profiles().values()))
    context = PassContext(many, selection, selection, accuracy, profile, 0, Budget(), lambda *_: None)
    plan = distill.Plan(epochs=5, learning_rate=1e-2)
    teacher = fine_tune(Network(16), context, loss=distill.labels_loss(Task("classes"), None), plan=plan).module
    return dataclasses.replace(context, train=few, teacher=teacher)


@pytest.fixture
def model(context) -> TorchModel:
    return TorchModel(Network(4), {"x": context.train.inputs["x"][:1]})


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# --- the pass -------------------------------------------------------------------------------------------------------


def test_a_student_is_trained_twice_and_the_better_is_kept(model, context):
    told = []
    before = [value.clone() for value in (*model.module.parameters(), *context.teacher.parameters())]
    context = dataclasses.replace(context, progress=lambda *step: told.append(step))
    DISTILL.requires(model, FEW, context)
    result = DISTILL.run(model, FEW, context)
    DISTILL.ensures(model, result, FEW, context)
    figures = result.figures
    best = max(figures["control_score"], figures["distilled_score"])
    assert accuracy(result.module, context.selection) == best > figures["start_score"] + 0.2
    assert figures["teacher_score"] == accuracy(context.teacher, context.selection) > 0.8
    assert [(done, total) for _, done, total in told] == [(step, 64) for step in range(1, 65)]
    assert told[0][0] == "plain, epoch 1"
    assert told[-1][0] == "with the teacher, epoch 4"
    assert all(map(torch.equal, before, (*model.module.parameters(), *context.teacher.parameters())))
    assert not any(module._forward_hooks for net in (model.module, context.teacher) for module in net.modules())


def test_the_same_seed_gives_the_same_bits(model, context):
    config = dataclasses.replace(FEW, epochs=1, augment=True)
    results, losses = [], []
    pairs = pair_layers(model.module, context.teacher, model.example_tensors(), ())
    for before in (1, 2):
        torch.manual_seed(before)
        losses.append(DistillLoss(Task("classes"), context.teacher, config, pairs, seed=0))
        results.append(DISTILL.run(model, config, context))
    assert same(*losses)  # the adapters start alike too, whichever training won
    first, again = results
    assert same(first.module, again.module)
    assert first.figures == again.figures


@pytest.fixture
def trainings(monkeypatch):
    """Runs the pass with two trainings that end with given scores, the start's being 0.5."""

    def run(model, context, control, distilled):
        outcomes = [
            Trained(Network(4), (), 0.5, max(0.5, score), int(score > 0.5), False, ()) for score in (control, distilled)
        ]
        modules, contexts = [outcome.module for outcome in outcomes], []

        def train(module, context, *, loss, plan):
            contexts.append(context)
            return outcomes[len(contexts) - 1]

        monkeypatch.setattr(distill, "fine_tune", train)
        result = DISTILL.run(model, FEW, context)
        return modules.index(result.module), [finding.code for finding in result.findings], contexts, result

    return run


@pytest.mark.parametrize(
    ("control", "distilled", "kept", "code", "words"),
    [
        (0.7, 0.8, 1, "distill-won", "won by 0.1000: 0.8000 with the teacher, 0.7000 without, start 0.5000"),
        (0.8, 0.7, 0, "distill-control-won", "won by 0.1000 and was kept: 0.7000 with"),
        (0.8, 0.8, 0, "distill-control-won", "won by 0.0000 and was kept: 0.8000 with"),
        (0.4, 0.6, 1, "distill-won", "won by 0.1000: 0.6000 with the teacher, 0.5000 without"),
        (0.4, 0.3, 0, "distill-without-gain", "left as it was"),
    ],
)
def test_the_winner_is_kept_and_named(model, context, trainings, control, distilled, kept, code, words):
    winner, codes, _, result = trainings(model, context, control, distilled)
    assert (winner, codes) == (kept, [code])
    assert words in result.findings[0].message


def test_the_control_takes_a_third_of_the_time_at_most(model, context, trainings):
    deadline = time.monotonic() + 3000
    _, _, (control, distilled), _ = trainings(model, dataclasses.replace(context, budget=Budget(deadline)), 0.6, 0.7)
    assert distilled.budget.deadline == deadline
    assert deadline - control.budget.deadline == pytest.approx(2000, rel=0.01)


def test_a_spent_budget_gives_the_model_back_and_says_so(model, context):
    result = DISTILL.run(model, FEW, dataclasses.replace(context, budget=Budget(time.monotonic())))
    assert same(result.module, model.module)
    assert [(finding.code, finding.where) for finding in result.findings] == [
        ("distill-without-gain", None),
        ("training-budget-spent", "plain fine-tuning"),
        ("training-budget-spent", "distillation"),
    ]


def test_without_labels_the_student_comes_closer_to_the_teacher(model, context):
    def closeness(module, data):
        x = torch.from_numpy(data.inputs["x"])
        with torch.inference_mode():
            return float(nn.functional.cosine_similarity(module(x), context.teacher(x)).mean())

    unlabelled = dataclasses.replace(context, train=dataclasses.replace(context.train, target=None), score=closeness)
    DISTILL.requires(model, FEW, unlabelled)
    figures = DISTILL.run(model, FEW, unlabelled).figures
    assert min(figures["control_score"], figures["distilled_score"]) > figures["start_score"] + 0.2


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(context) -> Batch:
    return Batch((torch.from_numpy(context.train.inputs["x"][:16]),), torch.from_numpy(context.train.target[:16]))


def loss_of(config, context, student, batch, kind="classes"):
    pairs = pair_layers(student, context.teacher, (batch.inputs[0][:1],), config.layers) if config.features else ()
    loss = DistillLoss(Task(kind), context.teacher, config, pairs, seed=0)
    return loss, loss(student, batch)


def test_the_loss_is_the_weighted_sum_of_its_three_parts(context, batch):
    student = Network(16)
    config = Config(temperature=3.0, logits=0.7, features=0.2, layers=("stem", "stage"))
    x = batch.inputs[0]
    ours, theirs = student(x), context.teacher(x)
    hard = nn.functional.cross_entropy(ours, batch.target)
    soft = 9 * nn.functional.kl_div((ours / 3).log_softmax(1), (theirs / 3).softmax(1), reduction="batchmean")
    inside = []
    for layers in (lambda net: net.stem(x), lambda net: net.stage(net.stem(x))):
        wanted = layers(context.teacher)
        inside.append((layers(student) - wanted).square().sum() / wanted.square().sum())
    expected = float(hard + 0.7 * soft + 0.2 * sum(inside) / 2)
    assert float(loss_of(config, context, student, batch)[1]) == pytest.approx(expected, rel=1e-5)


def test_a_teacher_has_nothing_to_teach_its_copy(context, batch):
    labels_only = nn.functional.cross_entropy(context.teacher(batch.inputs[0]), batch.target)
    assert float(loss_of(Config(), context, context.teacher, batch)[1]) == pytest.approx(float(labels_only), rel=1e-5)


def test_narrower_layers_are_read_through_an_adapter_that_learns(context, batch):
    student = Network(4).requires_grad_(True)
    loss, value = loss_of(Config(logits=0.0), context, student, batch)
    value.backward()
    maps = dict(loss.named_parameters())
    assert sorted(tuple(weight.shape) for weight in maps.values()) == [(16, 4), (32, 8), (32, 8)]
    assert all(weight.grad.abs().sum() > 0 for weight in maps.values())
    assert all(weight.grad is None for weight in context.teacher.parameters())
    assert student.stem[0].weight.grad.abs().sum() > 0


# --- which layers ---------------------------------------------------------------------------------------------------


def names_and_axes(student, teacher, names=()):
    return [(pair.name, pair.axis) for pair in pair_layers(student, teacher, (torch.zeros(1, 1, 8, 8),), names)]


def test_the_last_layer_of_each_resolution_is_chosen():
    assert names_and_axes(Network(4), Network(8)) == [("stem", 1), ("stage", 1), ("head.0", 1)]


def test_layers_at_each_third_of_an_encoder_are_chosen():
    # Nineteen give tokens of one shape: the embedding and, of each block, two linear layers and the block itself.
    assert names_and_axes(Encoder(), Encoder()) == [("blocks.1", 2), ("blocks.3", 2), ("blocks.5", 2)]


def test_layers_of_no_equal_shape_are_left_alone():
    other = nn.Sequential(OrderedDict(stem=nn.MaxPool2d(4), head=nn.Sequential(nn.Flatten(), nn.Linear(4, 10)))).eval()
    assert names_and_axes(Network(4), other) == []


def test_outputs_alone_teach_where_no_layer_fits_and_it_is_said(model, context):
    torch.manual_seed(0)
    flat = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval(), model.example)
    result = DISTILL.run(flat, FEW, context)
    assert "distill-without-features" in [finding.code for finding in result.findings]
    assert result.figures["distilled_score"] > result.figures["start_score"]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"temperature": 0.0}, "0.0"),
        ({"logits": -1.0}, "-1.0"),
        ({"logits": 0.0, "features": 0.0}, "0.0"),
        ({"features": -0.5}, "-0.5"),
        ({"epochs": 0}, "0"),
        ({"learning_rate": 0.0}, "0.0"),
        ({"batch_size": 1}, "1"),
        ({"patience": 0}, "0"),
    ],
)
def test_options_out_of_range_are_refused(model, context, changes, found):
    with pytest.raises(UserError) as caught:
        DISTILL.requires(model, Config(**changes), context)
    assert (caught.value.code, caught.value.found) == ("pass-option-range", found)


@pytest.mark.parametrize(
    ("config", "changes", "code", "hint"),
    [
        (FEW, {"train": None, "selection": None}, "training-data-missing", "data.train"),
        (FEW, {"teacher": None}, "distill-without-teacher", "after such a pass"),
        (FEW, {"teacher": Network(4, classes=9)}, "distill-teacher-does-not-fit", "same task"),
        (Config(layers=("stag",)), {}, "distill-layer-unknown", "did you mean 'stage'?"),
        (Config(layers=("head.1",)), {}, None, None),
    ],
)
def test_what_does_not_fit_is_told_before_any_training(model, context, config, changes, code, hint):
    context = dataclasses.replace(context, **changes)
    if code is None:
        DISTILL.requires(model, config, context)
        return
    with pytest.raises(UserError) as caught:
        DISTILL.requires(model, config, context)
    assert caught.value.code == code
    assert hint in caught.value.next_step


def test_a_named_layer_that_differs_in_more_than_channels_is_refused(model, context):
    other = Network(8)
    other.stage[0].stride = (1, 1)
    with pytest.raises(UserError) as caught:
        DISTILL.requires(model, Config(layers=("stage",)), dataclasses.replace(context, teacher=other))
    assert caught.value.code == "distill-layer-does-not-fit"
    assert caught.value.found == "(1, 8, 4, 4) and (1, 16, 8, 8)"


def test_a_result_that_is_another_network_or_not_finite_is_refused(model, context):
    broken = Network(4)
    broken.stem[0].weight[0] = float("nan")
    for module in (broken, Network(5)):
        with pytest.raises(CompileError) as caught:
            DISTILL.ensures(model, PassResult(module), FEW, context)
        assert caught.value.code == "distill-changed-the-model"
