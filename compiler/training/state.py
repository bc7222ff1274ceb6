"""A module as the thing that is trained, copied and put back: its tensors, their layout and number type, chance."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from edgewright.compiler.training.batches import Batch


def clone(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of `module` that shares nothing with it."""
    with warnings.catch_warnings():
        # torch's own copying of an exported graph uses what torch has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(module)


def fast_dtype(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that `device` computes faster in than in float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else None


def layout(module: torch.nn.Module, batch: Batch) -> torch.memory_format:
    """The memory format that convolutions are fastest in, unless the module's forward counts on the usual one."""
    if all(x.ndim != 4 for x in batch.inputs):
        return torch.contiguous_format
    inputs = [x[:1].contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x[:1] for x in batch.inputs]
    try:
        with torch.no_grad():
            clone(module).to(memory_format=torch.channels_last).eval()(*inputs)
    except RuntimeError:  # a view of what is not contiguous
        return torch.contiguous_format
    return torch.channels_last


def tensors_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Copies of all tensors that make the module what it is."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return [tensor.detach().to("cpu", copy=True).contiguous() for tensor in tensors]


def put(tensors: Sequence[torch.Tensor], module: torch.nn.Module) -> None:
    """Put what `tensors_of` gave into `module`, on the CPU."""
    for there, here in zip(itertools.chain(module.parameters(), module.buffers()), tensors, strict=True):
        there.data = here.clone()  # not copy_: an observer's buffers change their shape


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Chance by `seed` inside the block, for dropout and the like; afterwards torch's state is as it was."""
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        yield
