"""The child that holds one artifact: ``python -m edgewright.measurement.worker [MEMORY_LIMIT_BYTES]``.

It may crash, hang or run out of memory without taking anything else with it. Requests come on stdin and replies
leave on what was stdout; runtimes that print go to stderr instead.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from edgewright.contracts.errors import DeviceError, EdgewrightError, UserError
from edgewright.contracts.manifest import Manifest
from edgewright.measurement import frames
from edgewright.measurement.artifact import read_manifest, verify_files
from edgewright.measurement.parent import die_with
from edgewright.targets import TARGETS
from edgewright.targets.session import Session


def main() -> None:
    """Answer requests until stdin ends."""
    die_with(os.getppid())
    if len(sys.argv) > 1:
        # Private writable memory. Not the address space: runtimes reserve far more of it than they use.
        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    child = _Child()
    while (request := _read(sys.stdin.buffer)) is not None:
        frames.write_frame(replies, child.answer(request))


class _Child:
    """One artifact, once it is loaded."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._bound: Callable[[], object] | None = None

    def answer(self, request: frames.Request) -> frames.Reply:
        try:
            return self._answer(request)
        except EdgewrightError as error:
            return _failure(error)
        except MemoryError:
            return _failure(
                DeviceError(
                    "artifact-out-of-memory",
                    "the artifact needs more memory than it was allowed",
                    next_step="raise the limit, or choose a smaller artifact",
                )
            )
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever a runtime throws
            return _failure(
                DeviceError(
                    "artifact-failed", "the runtime failed on the artifact", found=f"{type(error).__name__}: {error}"
                )
            )

    def _answer(self, request: frames.Request) -> frames.Reply:
        match request:
            case frames.Load():
                return self._load(request)
            case frames.Infer(inputs):
                return frames.Outputs(frames.pack(self._loaded().infer(frames.unpack(inputs))))
            case frames.Bind(inputs):
                self._bound = self._loaded().bind(frames.unpack(inputs))
                return frames.Bound()
            case frames.Run(runs):
                return self._run(runs)

    def _load(self, request: frames.Load) -> frames.Reply:
        if request.cpus:
            os.sched_setaffinity(0, request.cpus)
        root = Path(request.root)
        manifest, _ = read_manifest(root)
        verify_files(root, manifest)
        if request.threads is not None:
            manifest = replace(manifest, options={**manifest.options, "threads": request.threads})
        start = time.perf_counter_ns()
        self._session = _open(root, manifest, simulate=request.simulate)
        load_ms = (time.perf_counter_ns() - start) / 1e6
        return frames.Loaded(self._session.runtime, self._session.runtime_version, self._session.how, load_ms)

    def _run(self, runs: int) -> frames.Reply:
        if self._bound is None:
            raise UserError("not-bound", "Run was asked for before Bind")
        run, clock, times = self._bound, time.perf_counter_ns, array("q", bytes(8 * runs))
        gc.disable()
        try:
            for index in range(runs):
                start = clock()
                run()
                times[index] = clock() - start
        finally:
            gc.enable()
        return frames.Times(times.tobytes(), _peak_memory_bytes())

    def _loaded(self) -> Session:
        if self._session is None:
            raise UserError("not-loaded", "the artifact was not loaded")
        return self._session


def _open(root: Path, manifest: Manifest, *, simulate: bool) -> Session:
    target = TARGETS.get(manifest.target)
    if target is None:
        raise DeviceError(
            "target-unknown",
            f"this version does not know the target {manifest.target!r}",
            expected="one of " + ", ".join(TARGETS),
            next_step="update edgewright on this machine",
        )
    module = importlib.import_module(f"{target.package}.run")
    opened: Session = (module.open_simulation if simulate else module.open_session)(root, manifest)
    return opened


def _failure(error: EdgewrightError) -> frames.Failure:
    return frames.Failure(type(error).__name__, error.code, error.what, error.expected, error.found, error.next_step)


def _read(stream: IO[bytes]) -> frames.Request | None:
    header = stream.read(frames.HEADER_BYTES)
    if len(header) < frames.HEADER_BYTES:
        return None
    return frames.decode_request(stream.read(frames.parse_length(header)))


def _peak_memory_bytes() -> int:
    # Not getrusage: its maximum is inherited from the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
