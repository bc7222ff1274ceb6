"""What the parent and the child of a measurement say to each other: length-prefixed MessagePack over two pipes."""

from __future__ import annotations

import struct
from typing import IO, Any

import msgspec
import numpy as np

from edgewright.targets.session import Arrays

_LENGTH = struct.Struct("<Q")
MAX_FRAME_BYTES = 4 << 30


class Tensor(msgspec.Struct, frozen=True):
    """An array as bytes: NumPy's dtype string, shape, and C-ordered data."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Tensors = dict[str, Tensor]


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Open the artifact in `root`. `cpus` empty: wherever the system likes."""

    root: str
    simulate: bool
    threads: int | None
    cpus: tuple[int, ...]


class Infer(msgspec.Struct, frozen=True, tag="infer"):
    """Run on these inputs."""

    inputs: Tensors


class Bind(msgspec.Struct, frozen=True, tag="bind"):
    """Keep one native batch of inputs for `Run`."""

    inputs: Tensors


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Time this many inferences on the bound inputs."""

    runs: int


Request = Load | Infer | Bind | Run


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The artifact is open. `how` as in Session."""

    runtime: str
    runtime_version: str
    how: str
    load_ms: float


class Outputs(msgspec.Struct, frozen=True, tag="outputs"):
    """Answer to Infer."""

    outputs: Tensors


class Bound(msgspec.Struct, frozen=True, tag="bound"):
    """Answer to Bind."""


class Times(msgspec.Struct, frozen=True, tag="times"):
    """Answer to Run: nanoseconds (int64), and the process's peak resident memory until now."""

    ns: bytes
    peak_memory_bytes: int


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """An error of our tree, by the name of its class."""

    kind: str
    code: str
    what: str
    expected: str | None
    found: str | None
    next_step: str | None


Reply = Loaded | Outputs | Bound | Times | Failure


def pack(arrays: Arrays) -> Tensors:
    """Arrays as they travel."""
    return {
        name: Tensor(array.dtype.str, tuple(array.shape), np.ascontiguousarray(array).tobytes())
        for name, array in arrays.items()
    }


def unpack(tensors: Tensors) -> dict[str, Any]:
    """The arrays again, writable."""
    return {
        name: np.frombuffer(bytearray(tensor.data), dtype=np.dtype(tensor.dtype)).reshape(tensor.shape)
        for name, tensor in tensors.items()
    }


def write_frame(stream: IO[bytes], message: Request | Reply) -> None:
    """Send one message."""
    data = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def parse_length(header: bytes) -> int:
    """Length of the message that follows its 8 header bytes; raises ValueError beyond the bound."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes is beyond {MAX_FRAME_BYTES}")
    return int(length)


HEADER_BYTES = _LENGTH.size


def decode_request(data: bytes) -> Request:
    """A request from its bytes."""
    request: Request = msgspec.msgpack.decode(data, type=Request)
    return request


def decode_reply(data: bytes) -> Reply:
    """A reply from its bytes; raises msgspec.DecodeError when a dying child left half a message."""
    reply: Reply = msgspec.msgpack.decode(data, type=Reply)
    return reply
