"""The processes that train together: one, or those that `torchrun` started (`WORLD_SIZE` in the environment).

Rules that this module keeps:

- A batch is split over the processes in equal parts, and what depends on the whole batch (gradients, BatchNorm's
  statistics, the loss) is averaged over them, so that more processes give what one process gives, but for rounding.
- The first process decides; the others are told. An error of its decision is raised in all of them, so that none waits
  for one that has gone.
- The process group is joined once and left when the process ends.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from edgewright.contracts.errors import EdgewrightError, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among those that train together. `device` is the one it trains on."""

    rank: int
    size: int
    device: torch.device

    @property
    def decides(self) -> bool:
        """Whether this is the process that decides and tells progress."""
        return self.rank == 0

    def decide(self, function: Callable[[], T]) -> T:
        """What `function` gives in the first process, in every process; what it raises there is raised in every one."""
        if self.size == 1:
            return function()
        outcome: list[T | EdgewrightError | None] = [None]
        if self.decides:
            try:
                outcome = [function()]
            except EdgewrightError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], EdgewrightError):
            raise outcome[0]
        return outcome[0]  # type: ignore[return-value]  # the first process put a T there

    def average(self, *numbers: torch.Tensor) -> tuple[float, ...]:
        """The mean over the processes of each of `numbers`, tensors with one element."""
        joined = torch.stack([number.detach().float().reshape(()) for number in numbers])
        if self.size > 1:
            dist.all_reduce(joined)
        return tuple((joined / self.size).tolist())

    def spread(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite `tensors`, on the CPU, with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                moved = tensor.to(self.device)
                dist.broadcast(moved, src=0)
                tensor.copy_(moved)


@functools.cache
def join_world() -> World:
    """Join the processes that `torchrun` started; alone where there are none. The first call waits for all of them.

    Raises:
        UserError: `training-processes-not-joined`.
    """
    has_cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if has_cuda else torch.device("cpu")
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return World(0, 1, device)
    if has_cuda:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if has_cuda else "gloo")
    except (ValueError, RuntimeError) as error:
        raise UserError(
            "training-processes-not-joined",
            "the processes that WORLD_SIZE promises could not be joined",
            expected="WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT as torchrun sets them",
            found=str(error).splitlines()[0][:300],
            next_step="start edgewright with torchrun --nproc-per-node N, or unset WORLD_SIZE to train in one process",
        ) from None
    atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), dist.get_world_size(), device)


class _Mean(torch.autograd.Function):
    """The mean of a tensor over the processes; its gradient is the mean of the gradients.

    The second is right where every process then takes the mean of its losses, as here.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - nothing to keep
        return _mean(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return _mean(gradient)


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / dist.get_world_size()


class _Synced(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm whose statistics in training are those of all processes' samples.

    torch's SyncBatchNorm does the same on GPUs only. As there, every process must have the same number of samples.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        wide = [1, -1, *[1] * (x.ndim - 2)]
        # The mean first and the variance around it: E[x²] - E[x]² would cancel in float32.
        mean = _Mean.apply(x.mean(axes))
        centred = x - mean.view(wide)
        variance = _Mean.apply((centred * centred).mean(axes))
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach(), samples=x.numel() // x.shape[1] * dist.get_world_size())
        out = centred * torch.rsqrt(variance + self.eps).view(wide)
        if self.affine:
            out = out * self.weight.view(wide) + self.bias.view(wide)
        return out.to(input.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor, samples: int) -> None:
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * samples / max(1, samples - 1), share)


class _Synced1d(_Synced, torch.nn.BatchNorm1d):
    pass


class _Synced2d(_Synced, torch.nn.BatchNorm2d):
    pass


class _Synced3d(_Synced, torch.nn.BatchNorm3d):
    pass


_SYNCED = {torch.nn.BatchNorm1d: _Synced1d, torch.nn.BatchNorm2d: _Synced2d, torch.nn.BatchNorm3d: _Synced3d}


def sync_batch_norms(module: torch.nn.Module, world: World) -> None:
    """Let every BatchNorm of `module` see the samples of all processes. `module` is changed, its tensors are not."""
    if world.size > 1:
        for layer in module.modules():
            # A change of class keeps tensors, hooks and the places where a layer is used twice.
            layer.__class__ = _SYNCED.get(type(layer), type(layer))


def shard(module: torch.nn.Module, world: World) -> None:
    """Split the parameters of `module` over the processes (FSDP2); each is gathered only while it is used.

    The host's memory held the whole module before; what is saved is the device's. `module` is changed.
    """
    if world.size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for buffer in module.buffers():
        buffer.data = buffer.data.to(world.device)
    for block in _blocks(module):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(module, mesh=mesh, reshard_after_forward=True)


def _blocks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The parts of `module` that are gathered one by one: its children, those of a list or a sequence one by one."""
    if isinstance(module, torch.fx.GraphModule):
        return []  # its graph takes the parameters without calling the children
    blocks: list[torch.nn.Module] = []
    for child in module.children():
        is_list = isinstance(child, torch.nn.Sequential | torch.nn.ModuleList)
        blocks += child.children() if is_list else [child]
    uses = Counter(id(weight) for block in blocks for weight in block.parameters())
    # Weights that two blocks share stay with the root: a parameter can be in one group only. A module without forward
    # of its own would never gather.
    return [
        block
        for block in blocks
        if any(True for _ in block.parameters())
        and all(uses[id(weight)] == 1 for weight in block.parameters())
        and not isinstance(block, torch.nn.ModuleList | torch.nn.ModuleDict)
    ]
