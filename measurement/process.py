"""The parent's side: one artifact in a child process, with a time limit on every answer.

Whatever the artifact does to its child becomes a DeviceError here.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec
import numpy as np

from edgewright.contracts import errors
from edgewright.contracts.errors import DeviceError, EdgewrightError
from edgewright.measurement import frames
from edgewright.measurement.artifact import read_manifest
from edgewright.measurement.probe import ProbeResult, compare, read_probe
from edgewright.targets import TARGETS
from edgewright.targets.session import Arrays

R = TypeVar("R", bound=frames.Reply)

_ERRORS = {
    cls.__name__: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, EdgewrightError)
}


def _load_timeout_s(target: str) -> float:
    # A target this version does not know fails in the child, with a code.
    return TARGETS[target].load_timeout_s if target in TARGETS else 120.0


class ArtifactProcess:
    """An artifact, loaded in a child process. Use it as a context manager.

    The child checks every file's digest before a runtime sees it.

    Args:
        root: the artifact's folder.
        simulate: let the target's stand-in run it, where this host cannot.
        threads: instead of the manifest's.
        cpus: pin the child to these; empty: do not.
        memory_limit_bytes: private memory the child may use; None: no limit.
        timeout_s: for each answer; loading may take as long as the target's row in TARGETS says.

    Raises:
        DeviceError: `artifact-crashed`, `artifact-timeout`, `artifact-failed`, `artifact-out-of-memory`.
        EdgewrightError: what the child raised: `artifact-digest-mismatch`, `runtime-missing`, …
    """

    def __init__(
        self,
        root: Path,
        *,
        simulate: bool = False,
        threads: int | None = None,
        cpus: tuple[int, ...] = (),
        memory_limit_bytes: int | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.root = root
        self.manifest, self.digest = read_manifest(root)
        self._request = frames.Load(str(root.absolute()), simulate, threads, cpus)
        self._memory_limit_bytes = memory_limit_bytes
        self._timeout_s = timeout_s
        self.loaded = frames.Loaded("", "", "", 0.0)

    def __enter__(self) -> ArtifactProcess:
        command = [sys.executable, "-m", "edgewright.measurement.worker"]
        if self._memory_limit_bytes is not None:
            command.append(str(self._memory_limit_bytes))
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # closed in _end
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, start_new_session=True
        )
        try:
            self.loaded = self._ask(self._request, frames.Loaded, _load_timeout_s(self.manifest.target))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def infer(self, inputs: Arrays) -> Arrays:
        """Outputs for any number of samples."""
        return frames.unpack(self._ask(frames.Infer(frames.pack(inputs)), frames.Outputs).outputs)

    def probe(self) -> ProbeResult:
        """Run the artifact's golden probe and compare."""
        inputs, expected = read_probe(self.root / self.manifest.probe.path)
        return compare(self.manifest.probe, expected, self.infer(inputs))

    def bind(self, inputs: Arrays) -> None:
        """Keep `inputs` (one native batch) for `run`."""
        self._ask(frames.Bind(frames.pack(inputs)), frames.Bound)

    def run(self, runs: int) -> tuple[np.ndarray, int]:
        """Time `runs` inferences on the bound inputs: microseconds, shape (runs,), and peak memory in bytes."""
        reply = self._ask(frames.Run(runs), frames.Times)
        return np.frombuffer(reply.ns, dtype=np.int64) / 1e3, reply.peak_memory_bytes

    def _ask(self, request: frames.Request, kind: type[R], timeout_s: float | None = None) -> R:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        assert self._child.stdin is not None  # noqa: S101 - Popen was given a pipe
        try:
            frames.write_frame(self._child.stdin, request)
        except BrokenPipeError:
            raise self._crashed() from None
        header = self._read(frames.HEADER_BYTES, deadline, timeout_s)
        try:
            reply = frames.decode_reply(self._read(frames.parse_length(header), deadline, timeout_s))
        except (ValueError, msgspec.DecodeError):
            raise self._crashed() from None
        if isinstance(reply, frames.Failure):
            raise _ERRORS.get(reply.kind, DeviceError)(
                reply.code, reply.what, expected=reply.expected, found=reply.found, next_step=reply.next_step
            )
        if not isinstance(reply, kind):
            raise self._crashed()
        return reply

    def _read(self, size: int, deadline: float, timeout_s: float) -> bytes:
        assert self._child.stdout is not None  # noqa: S101 - Popen was given a pipe
        descriptor, chunks, left = self._child.stdout.fileno(), [], size
        while left:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise DeviceError(
                    "artifact-timeout",
                    f"the artifact gave no answer within {timeout_s:g} s and was ended",
                    next_step="try it on an idle machine, or choose another artifact",
                )
            chunk = os.read(descriptor, min(left, 1 << 20))
            if not chunk:
                raise self._crashed()
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)

    def _crashed(self) -> DeviceError:
        status = self._child.wait()
        self._stderr.seek(0)
        tail = self._stderr.read()[-2000:].decode(errors="replace").strip().splitlines()[-3:]
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return DeviceError(
            "artifact-crashed",
            "the process that ran the artifact died",
            found=" | ".join([how, *tail]),
            next_step="the artifact or its runtime is not usable on this machine; choose another artifact",
        )

    def _end(self) -> None:
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # it died with unread input; it is reaped below
        self._child.kill()
        self._child.wait()
        self._stderr.close()
