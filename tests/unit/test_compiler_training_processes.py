"""Two real processes, started by torchrun, train as one does. The file is also the program that they run."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgewright.compiler.data import Dataset
from edgewright.compiler.passes import distill
from edgewright.compiler.passes.model_pass import Budget, PassContext, TorchModel
from edgewright.compiler.training import Plan, Task, fine_tune, first_output, join_world, labels_loss
from edgewright.contracts.errors import UserError
from edgewright.hardware_profiles.schema import load_profiles


class Network(nn.Module):
    """Convolutions with BatchNorm, and parameters that no output depends on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        # Without biases: before a BatchNorm they have no gradient but rounding, which AdamW makes large.
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, bias=False),
        )
        self.norm = nn.BatchNorm1d(16 * width)
        self.head = nn.Linear(16 * width, 10)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.norm(self.body(x).flatten(1)))


def accuracy(module, data) -> float:
    with torch.inference_mode():
        output = first_output(module(torch.from_numpy(data.inputs["x"])))
    return float((output.argmax(1).numpy() == data.target).mean())


def context() -> PassContext:
    images, labels = load_digits(return_X_y=True)
    inputs = (images.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
    train, selection = (
        Dataset({"x": inputs[part]}, labels[part], named=True, origin="the digits")
        for part in (slice(0, 250), slice(1000, 1300))
    )
    profile = next(iter(load_profiles().values()))
    return PassContext(
        train, selection, selection, accuracy, profile, 1, Budget(), lambda *_: None, teacher=Network(12).eval()
    )


def plain():
    plan = Plan(epochs=3, batch_size=50, learning_rate=5e-3, augment=True, mixed_precision=False)
    return fine_tune(Network(6).eval(), context(), loss=labels_loss(Task("classes"), None), plan=plan)


def from_a_split_teacher():
    model = TorchModel(Network(6).eval(), {"x": context().train.inputs["x"][:1]})
    config = distill.Config(epochs=2, batch_size=50, learning_rate=5e-3, shard_teacher=True, layers=("body",))
    return distill.run(model, config, context())


def refused() -> str:
    def score(module, data):
        raise UserError("score-refused", f"in process {os.environ['RANK']}")

    try:
        fine_tune(Network(2).eval(), dataclasses.replace(context(), score=score), loss=len, plan=Plan(epochs=1))
    except UserError as error:
        return error.what
    return "nothing"


def main(folder: Path) -> None:
    trained, distilled = plain(), from_a_split_teacher()
    results = {
        "state": trained.module.state_dict(),
        "losses": [epoch.loss for epoch in trained.history],
        "distilled": distilled.module.state_dict(),
        "figures": dict(distilled.figures),
        "refused": refused(),
    }
    torch.save(results, folder / f"{join_world().rank}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        __file__,
        str(folder),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Warning" not in run.stderr, run.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def close(a, b, tolerance: float) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=tolerance) for name in a)


def test_two_processes_give_what_one_gives(processes):
    alone = plain()
    assert alone.best_epoch > 0
    assert [epoch.loss for epoch in alone.history] == pytest.approx(processes[0]["losses"], rel=1e-3)
    assert close(processes[0]["state"], alone.module.state_dict(), 2e-3)


def test_both_processes_end_with_the_same_bits(processes):
    first, second = processes
    assert close(first["state"], second["state"], 0)
    assert close(first["distilled"], second["distilled"], 0)
    assert first["figures"] == second["figures"]


def test_a_teacher_split_over_the_processes_teaches(processes):
    figures = processes[0]["figures"]
    assert figures["distilled_epochs"] == 2
    assert figures["distilled_score"] > figures["start_score"]


def test_what_the_first_process_refuses_is_told_in_both(processes):
    assert [result["refused"] for result in processes] == ["in process 0"] * 2


if __name__ == "__main__":
    main(Path(sys.argv[1]))
