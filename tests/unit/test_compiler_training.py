import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes.model_pass import Budget, PassContext
from edgewright.compiler.training import Plan, Task, fine_tune, first_output, labels_loss, read_task
from edgewright.compiler.training.batches import Batches, crop_and_flip
from edgewright.compiler.training.plan import Epoch, has_stalled, one_cycle
from edgewright.compiler.training.workers import World, join_world
from edgewright.contracts.errors import CompileError, UserError
from edgewright.hardware_profiles.schema import load_profiles

ALONE = World(0, 1, torch.device("cpu"))
CLASSES = Task("classes")


def dataset(inputs, target) -> Dataset:
    return Dataset({"x": np.asarray(inputs, np.float32)}, target, named=True, origin="the digits")


def accuracy(module, data) -> float:
    with torch.inference_mode():
        output = first_output(module(*map(torch.from_numpy, data.inputs.values())))
    return float((output.argmax(1).numpy() == data.target).mean())


def network(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, 10),
        )
        .eval()
        .requires_grad_(False)
    )


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Dataset]:
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8) / 8 - 1
    return dataset(images[:1000], labels[:1000]), dataset(images[1000:1300], labels[1000:1300])


@pytest.fixture
def context(digits) -> PassContext:
    train, selection = digits
    return PassContext(
        train=train,
        selection=selection,
        calibration=selection,
        score=accuracy,
        profile=next(iter(load_profiles().values())),
        seed=3,
        budget=Budget(),
        progress=lambda what, done, total: None,
    )


@pytest.fixture
def small(context) -> PassContext:
    """96 samples to train on, in batches of 32: three steps an epoch."""
    few = dataset(context.train.inputs["x"][:96], context.train.target[:96])
    return dataclasses.replace(context, train=few)


def tune(module, context, *, loss=None, after_step=None, **plan):
    plan = Plan(**{"epochs": 1, "batch_size": 32, "learning_rate": 1e-2, **plan})
    return fine_tune(module, context, loss=loss or labels_loss(CLASSES, None), plan=plan, after_step=after_step)


def state(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- what comes back ------------------------------------------------------------------------------------------------


def test_a_network_learns_and_comes_back_ready_for_targets(context):
    trained = tune(network(), context, epochs=3)
    assert trained.start_score < 0.3
    assert trained.best_score > 0.85
    assert accuracy(trained.module, context.selection) == trained.best_score
    assert not any(module.training for module in trained.module.modules())
    assert not any(weight.requires_grad for weight in trained.module.parameters())
    assert {(weight.dtype, weight.device.type) for weight in trained.module.parameters()} == {(torch.float32, "cpu")}
    assert all(weight.is_contiguous() for weight in trained.module.parameters())
    assert [type(module) for module in trained.module] == [type(module) for module in network()]
    assert [epoch.number for epoch in trained.history] == [1, 2, 3]
    assert trained.history[-1].learning_rate == 0


def test_the_module_given_stays_as_it_is(small):
    module = network()
    before = state(module)
    trained = tune(module, small, epochs=3)
    assert same(state(module), before)
    assert not any(part.training for part in module.modules())
    assert not any(weight.requires_grad for weight in module.parameters())
    assert not same(state(trained.module), before)


def test_the_same_seed_gives_the_same_bits(small):
    noisy = nn.Sequential(*network()[:-1], nn.Dropout(0.5), network()[-1]).eval()

    def tuned(seed, before):
        torch.manual_seed(before)
        return state(tune(noisy, dataclasses.replace(small, seed=seed), epochs=3, augment=True).module)

    first, again, other = tuned(3, before=1), tuned(3, before=2), tuned(4, before=1)
    assert same(first, again)
    assert not same(first, other)


def test_chance_outside_is_left_alone(small):
    module = network()
    before = torch.get_rng_state()
    tune(module, small, augment=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_where_nothing_is_better_than_the_start_the_start_comes_back(small):
    good = tune(network(), small, epochs=10).module
    harmful = labels_loss(CLASSES, None)
    trained = tune(good, small, epochs=2, loss=lambda module, batch: -harmful(module, batch))
    assert same(state(trained.module), state(good))
    assert trained.best_epoch == 0
    assert trained.best_score == trained.start_score
    assert [finding.code for finding in trained.findings] == ["training-without-gain"]


def scripted(context, scores):
    """A context whose scores are `scores`, and the states that were scored."""
    seen, remaining = [], iter(scores)

    def score(module, data):
        seen.append(state(module))
        return next(remaining)

    return dataclasses.replace(context, score=score), seen


def test_an_early_stop_returns_the_best_epoch(small):
    context, seen = scripted(small, [0.1, 0.2, 0.6, 0.5, 0.6])
    trained = tune(network(), context, epochs=20, patience=2)
    assert trained.stopped_early
    assert (trained.best_epoch, trained.best_score, len(trained.history)) == (2, 0.6, 4)
    assert same(state(trained.module), seen[2])
    assert trained.findings == ()


def test_epochs_below_the_start_that_rise_do_not_end_it(small):
    context, seen = scripted(small, [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.95])
    trained = tune(network(), context, epochs=6, patience=2)
    assert not trained.stopped_early
    assert trained.best_score == 0.95
    assert same(state(trained.module), seen[-1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(1, 5))
def test_it_stalls_when_the_best_is_older_than_the_patience(scores, patience):
    history = [Epoch(number, 0.0, score, 0.0) for number, score in enumerate(scores, 1)]
    assert has_stalled(history, patience) == (scores.index(max(scores)) < len(scores) - patience)
    assert not has_stalled(history, None)


# --- budget, progress, trouble --------------------------------------------------------------------------------------


class Allowing(Budget):
    """A budget that is spent after being asked `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        object.__setattr__(self, "left", itertools.chain(itertools.repeat(False, times), itertools.repeat(True)))

    def is_spent(self) -> bool:
        return next(self.left)


def test_the_budget_ends_it_between_steps_with_the_best_so_far(small):
    steps = []
    context, seen = scripted(small, [0.1, 0.5, 0.6])
    context = dataclasses.replace(context, budget=Allowing(5), progress=lambda what, done, total: steps.append(done))
    trained = tune(network(), context, epochs=10)
    assert steps == [1, 2, 3, 4, 5]
    assert trained.stopped_early
    assert (trained.best_epoch, trained.best_score) == (2, 0.6)  # the epoch that was begun counts
    assert same(state(trained.module), seen[2])
    assert [finding.code for finding in trained.findings] == ["training-budget-spent"]


def test_a_spent_budget_gives_the_start_back(small):
    context, seen = scripted(small, [0.4])
    trained = tune(network(), dataclasses.replace(context, budget=Allowing(0)))
    assert same(state(trained.module), seen[0])
    assert {finding.code for finding in trained.findings} == {"training-budget-spent", "training-without-gain"}


def test_every_step_is_told_and_their_number_is_known_before(small):
    told = []
    tune(network(), dataclasses.replace(small, progress=lambda *told_: told.append(told_)), epochs=1.7)
    assert told == [("epoch 1", 1, 5), ("epoch 1", 2, 5), ("epoch 1", 3, 5), ("epoch 2", 4, 5), ("epoch 2", 5, 5)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda output: torch.tensor(float("nan")),  # the loss alone
        lambda output: (output * 0).sum().sqrt(),  # the gradient alone
        lambda output: output.sum() * 1e38 * 1e38,
    ],
)
def test_numbers_that_are_none_end_it_with_what_to_do(small, spoil):
    def loss(module, batch):
        output = module(*batch.inputs).float()
        return nn.functional.cross_entropy(output, batch.target) + spoil(output)

    with pytest.raises(CompileError) as caught:
        tune(network(), small, loss=loss, learning_rate=0.02)
    assert caught.value.code == "training-diverged"
    assert "step 1 of 3" in caught.value.found
    assert "0.02" in caught.value.next_step


def test_a_score_that_is_no_number_is_told(small):
    with pytest.raises(CompileError) as caught:
        tune(network(), scripted(small, [float("nan")])[0])
    assert caught.value.code == "metric-not-finite"


def test_an_error_in_the_forward_is_told_with_its_place(small):
    code = compile("def fail(x):\n    raise KeyError('mask')", "/home/user/net.py", "exec")
    users: dict[str, object] = {}
    exec(code, users)  # noqa: S102 - a file of the user's, outside of ours

    class Faulty(nn.Module):
        def forward(self, x):
            return users["fail"](x) if self.training else x

    with pytest.raises(CompileError) as caught:
        tune(Faulty(), scripted(small, [0.1])[0])
    assert caught.value.code == "user-code-failed"
    assert caught.value.found == "KeyError: 'mask'"
    assert "/home/user/net.py:2" in caught.value.next_step


def test_too_little_memory_is_told_with_the_option_to_turn(small):
    def loss(module, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(CompileError) as caught:
        tune(network(), small, loss=loss)
    assert caught.value.code == "training-out-of-memory"
    assert "32 samples" in caught.value.found
    assert "batch_size" in caught.value.next_step


def test_without_training_data_the_recipe_is_named(small):
    with pytest.raises(UserError) as caught:
        tune(network(), dataclasses.replace(small, train=None, selection=None))
    assert caught.value.code == "training-data-missing"
    assert "data.train" in caught.value.next_step


def test_a_single_sample_is_too_few(small):
    one = dataset(small.train.inputs["x"][:1], small.train.target[:1])
    with pytest.raises(UserError) as caught:
        tune(network(), dataclasses.replace(small, train=one))
    assert caught.value.code == "training-too-few-samples"


def test_processes_that_never_come_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError) as caught:
        join_world.__wrapped__()
    assert caught.value.code == "training-processes-not-joined"
    assert "torchrun" in caught.value.next_step


# --- the step -------------------------------------------------------------------------------------------------------


def test_masks_put_on_after_each_step_hold_in_the_result(small):
    def mask(module):
        module[3].weight[:, ::2] = 0

    trained = tune(network(), small, epochs=2, after_step=mask)
    assert trained.best_epoch > 0
    assert (trained.module[3].weight[:, ::2] == 0).all()
    assert (trained.module[3].weight[:, 1::2] != 0).all()


def test_batch_norm_follows_the_data_and_takes_a_sample_left_over(small):
    shifted = dataset(small.train.inputs["x"][:65] + 5, small.train.target[:65])
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    trained = tune(module, scripted(dataclasses.replace(small, train=shifted), itertools.count())[0], epochs=20)
    mean = shifted.inputs["x"].mean()
    assert float(trained.module[0].running_mean) == pytest.approx(mean, rel=0.05)


def test_parameters_of_the_loss_are_trained_too(small):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, module, batch):
            return nn.functional.cross_entropy(module(*batch.inputs).float() * self.scale, batch.target)

    loss = Scaled()
    tune(network(), small, loss=loss)
    assert loss.scale.item() != 1


def test_a_forward_that_counts_on_the_usual_memory_order_is_trained(small):
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = network()[:5], nn.Linear(16 * 16, 10)

        def forward(self, x):
            x = self.body(x)
            return self.head(x.view(len(x), -1))

    assert tune(Viewing().eval(), small, epochs=3).best_epoch > 0


def test_an_exported_graph_is_trained(small):
    example = (torch.zeros(2, 1, 8, 8),)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(network(), example, dynamic_shapes=shapes).module(check_guards=False)
    trained = tune(graph, small, epochs=5)
    assert trained.best_epoch > 0
    assert accuracy(trained.module, small.selection) == trained.best_score


@given(st.integers(1, 500))
def test_the_learning_rate_rises_over_a_tenth_and_falls_to_nothing(total):
    rates = [one_cycle(done, total) for done in range(1, total + 1)]
    top = rates.index(max(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(0)
    assert rates[0] == pytest.approx(10 / total) or total < 10
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert top <= total / 10


# --- batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_each_sample_once_in_an_order_of_the_seed():
    data = dataset(np.arange(12)[:, None], np.arange(12))

    def epoch(seed):
        batches = Batches(data, 4, seed, ALONE, augment=False)
        return [batch.target.tolist() for batch in itertools.islice(batches.stream(), batches.per_epoch)]

    assert sorted(itertools.chain(*epoch(1))) == list(range(12))
    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_two_processes_share_the_batch_that_one_would_have():
    data = dataset(np.random.default_rng(0).normal(size=(13, 1, 8, 8)), np.arange(13))

    def batches(rank, size):
        stream = Batches(data, 5, 0, World(rank, size, torch.device("cpu")), augment=True).stream()
        return list(itertools.islice(stream, 6))

    # Of a batch of five, two processes take two each.
    whole = list(itertools.islice(Batches(data, 4, 0, ALONE, augment=True).stream(), 6))
    for batch, even, odd in zip(whole, batches(0, 2), batches(1, 2), strict=True):
        assert torch.equal(batch.inputs[0][0::2], even.inputs[0])
        assert torch.equal(batch.inputs[0][1::2], odd.inputs[0])
        assert torch.equal(batch.target[1::2], odd.target)
        assert not torch.equal(batch.inputs[0], torch.from_numpy(data.inputs["x"][batch.target.numpy()]))


def test_crops_move_by_an_eighth_at_most_and_bring_in_zeros():
    image = np.arange(1, 65, dtype=np.float32).reshape(1, 1, 8, 8)
    one = np.ones(1)
    assert np.array_equal(crop_and_flip(image, 0.5 * one, 0.5 * one, 0.9 * one), image)
    assert np.array_equal(crop_and_flip(image, 0.5 * one, 0.5 * one, 0.1 * one), image[..., ::-1])
    down = crop_and_flip(image, 0 * one, 0.5 * one, 0.9 * one)
    assert np.array_equal(down[..., 1:, :], image[..., :-1, :])
    assert (down[..., 0, :] == 0).all()
    left = crop_and_flip(image, 0.5 * one, 0.999 * one, 0.9 * one)
    assert np.array_equal(left[..., :-1], image[..., 1:])


def test_other_inputs_than_images_are_not_varied():
    data = dataset(np.random.default_rng(0).normal(size=(8, 6)), np.arange(8))
    batch = next(Batches(data, 8, 0, ALONE, augment=True).stream())
    assert np.array_equal(batch.inputs[0].numpy(), data.inputs["x"][batch.target.numpy()])


# --- losses ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def scores():
    random = np.random.default_rng(5)
    ours, theirs = random.normal(size=(2, 6, 4)) * 4
    return ours, theirs, random.integers(4, size=6)


def softmax(values):
    exps = np.exp(values - values.max(1, keepdims=True))
    return exps / exps.sum(1, keepdims=True)


def gradient_of(function, values):
    tensor = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    loss = function(tensor)
    loss.backward()
    return float(loss.detach()), tensor.grad.numpy()


def test_cross_entropy_and_its_gradient_are_those_of_float64(scores):
    ours, _, labels = scores
    value, gradient = gradient_of(lambda output: CLASSES.hard(output, torch.from_numpy(labels)), ours)
    probabilities = softmax(ours)
    assert value == pytest.approx(-np.log(probabilities[np.arange(6), labels]).mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, (probabilities - np.eye(4)[labels]) / 6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_and_its_gradient_are_those_of_float64(scores, temperature):
    ours, theirs, _ = scores
    teacher = torch.tensor(theirs, dtype=torch.float32)
    value, gradient = gradient_of(lambda output: CLASSES.soft(output, teacher, temperature), ours)
    p, q = softmax(theirs / temperature), softmax(ours / temperature)
    assert value == pytest.approx(temperature**2 * (p * np.log(p / q)).sum(1).mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, temperature * (q - p) / 6, atol=1e-5)


def test_a_softmax_at_the_models_end_changes_neither_loss(scores):
    ours, theirs, labels = (torch.as_tensor(array) for array in scores)
    after = Task("classes", gives_probabilities=True)
    assert float(after.hard(ours.softmax(1), labels)) == pytest.approx(float(CLASSES.hard(ours, labels)), rel=1e-4)
    soft = after.soft(ours.softmax(1), theirs.softmax(1), 3.0)
    assert float(soft) == pytest.approx(float(CLASSES.soft(ours, theirs, 3.0)), rel=1e-4)


def test_a_divergence_is_the_mean_over_all_places_of_a_map(scores):
    ours, theirs, _ = (torch.as_tensor(array) for array in scores)
    maps = [x.T.reshape(1, 4, 2, 3) for x in (ours, theirs)]
    assert float(CLASSES.soft(*maps, 2.0)) == pytest.approx(float(CLASSES.soft(ours, theirs, 2.0)), rel=1e-5)


def test_relative_errors_do_not_depend_on_the_unit():
    values, wanted = torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 2.0]])
    for unit in (1, 1000):
        assert float(Task("values").hard(unit * values, unit * wanted)) == pytest.approx(0.25)
    assert float(Task("values").hard(torch.zeros(1, 2), wanted)) == 1


class Giving(nn.Module):
    def __init__(self, *shape, softmax=False):
        super().__init__()
        self._shape, self._softmax = shape, softmax

    def forward(self, x):
        output = torch.randn(len(x), *self._shape)
        return (output.softmax(1) if self._softmax else output, x)


@pytest.mark.parametrize(
    ("module", "target", "task"),
    [
        (Giving(4), np.arange(4), Task("classes")),
        (Giving(4, softmax=True), np.arange(4), Task("classes", gives_probabilities=True)),
        (Giving(4, 2, 3), np.zeros((4, 2, 3), np.uint8), Task("classes")),
        (Giving(1), np.ones(4, np.float32), Task("values")),
        (Giving(2, 3), np.ones((4, 2, 3)), Task("values")),
        (Giving(7), None, Task("unlabelled")),
    ],
)
def test_labels_say_what_is_to_be_learned(module, target, task):
    assert read_task(module, dataset(np.zeros((4, 1)), target)) == task


@pytest.mark.parametrize(
    ("module", "target", "code"),
    [
        (Giving(4), np.array([0, 1, 2, 4]), "labels-out-of-range"),
        (Giving(4), np.array([0, 1, 2, -1]), "labels-out-of-range"),
        (Giving(4), np.eye(4, dtype=int), "labels-do-not-fit"),
        (Giving(4), np.ones((4, 3)), "labels-do-not-fit"),
        (Giving(), np.arange(4), "labels-do-not-fit"),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_told(module, target, code):
    with pytest.raises(UserError) as caught:
        read_task(module, dataset(np.zeros((4, 1)), target))
    assert caught.value.code == code
    assert caught.value.next_step


def test_without_labels_the_teachers_outputs_are_learned(small):
    teacher, student = network(), network(4)
    unlabelled = dataclasses.replace(small.train, target=None)

    def closeness(module, data):
        x = torch.from_numpy(data.inputs["x"])
        return -float((module(x) - teacher(x)).square().mean())

    context = dataclasses.replace(small, train=unlabelled, score=closeness)
    trained = tune(student, context, loss=labels_loss(Task("unlabelled"), teacher), epochs=10)
    assert trained.best_score > 0.2 * trained.start_score
    with pytest.raises(UserError) as caught:
        labels_loss(Task("unlabelled"), None)
    assert caught.value.code == "training-without-yardstick"
