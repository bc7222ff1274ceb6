"""Fine-tuning, as every pass that trains uses it: one loop, the losses, and the processes of `torchrun`."""

from edgewright.compiler.training.batches import Batch
from edgewright.compiler.training.loop import fine_tune
from edgewright.compiler.training.losses import Loss, Task, first_output, labels_loss, read_task
from edgewright.compiler.training.plan import AfterStep, Epoch, Plan, Trained, training_data
from edgewright.compiler.training.state import clone
from edgewright.compiler.training.workers import World, join_world

__all__ = [
    "AfterStep",
    "Batch",
    "Epoch",
    "Loss",
    "Plan",
    "Task",
    "Trained",
    "World",
    "clone",
    "fine_tune",
    "first_output",
    "join_world",
    "labels_loss",
    "read_task",
    "training_data",
]
