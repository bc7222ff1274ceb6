"""What surrounds an agent in its tests: documents, artifacts, a registry that misbehaves on demand, scripted trials."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from edgewright.contracts.benchmark import BenchmarkReport, Conditions, Latency, LatencySketch, Speedup
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.ids import Digest, ExecutionId, ProfileId, ReleaseRef, RolloutId, digest_of
from edgewright.contracts.manifest import FileEntry, GoldenProbe, Manifest, Provenance, Quality, Requirements
from edgewright.contracts.messages import Assignment, Candidate, Policy
from edgewright.contracts.wire import encode
from edgewright.edge_agent.trials import ProbeVerdict
from edgewright.edge_agent.worker import Abort


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that must come true, however slow the machine."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.01)


PROFILE = ProfileId("generic")


def digest(text: str) -> Digest:
    return digest_of(text.encode())


def candidate(text: str = "one") -> Candidate:
    return Candidate(
        artifact=digest(text),
        profile=PROFILE,
        target="tflite",
        precision="int8",
        size_bytes=1,
        requirements=Requirements(),
    )


def assignment(
    execution: str = "e1",
    release: str = "m:1",
    candidates: tuple[Candidate, ...] = (candidate(),),
    policy: Policy | None = None,
    deadline: float | None = None,
) -> Assignment:
    return Assignment(
        execution=ExecutionId(execution),
        rollout=RolloutId("r"),
        release=ReleaseRef.parse(release),
        candidates=candidates,
        policy=policy or Policy(),
        deadline=deadline,
    )


def report(artifact: Digest | None = None, *, speedup_low: float | None = None) -> BenchmarkReport:
    """100 runs: 90 in the bucket around 1,000 us, 10 in the one around 2,000 us."""
    speedup = None
    if speedup_low is not None:
        speedup = Speedup(against=digest("old"), against_p50_us=1.0, ratio=speedup_low, low=speedup_low, high=9.0)
    return BenchmarkReport(
        artifact=artifact or digest("one"),
        latency_us=Latency(p50=1000, p90=1000, p99=2000, mean=1100, p50_low=990, p50_high=1010),
        sketch=LatencySketch(relative_accuracy=0.01, buckets={346: 90, 381: 10}),
        runs=100,
        warmup_runs=1,
        stable=True,
        throughput_per_s=900.0,
        load_ms=1.0,
        peak_memory_bytes=1_000_000,
        conditions=Conditions(
            threads=1,
            batch=1,
            cpus=(),
            clock="perf_counter_ns",
            clock_mhz_before=None,
            clock_mhz_after=None,
            temperature_c=None,
            load_average=None,
            how="measured",
        ),
        runtime="tflite",
        runtime_version="2.3.0",
        speedup=speedup,
    )


FINGERPRINT = Fingerprint(
    machine="x86_64",
    cpu_model="test",
    cores=2,
    cpu_flags=(),
    memory_bytes=1 << 30,
    board=None,
    gpu=None,
    os="test",
    glibc=None,
    python="3.11",
    runtimes={"tflite": "2.3.0"},
)


@dataclass(frozen=True)
class Artifact:
    """An artifact as blobs by digest."""

    digest: Digest
    manifest: Manifest
    blobs: dict[Digest, bytes]

    @property
    def candidate(self) -> Candidate:
        return Candidate(
            artifact=self.digest,
            profile=self.manifest.profile,
            target=self.manifest.target,
            precision=self.manifest.precision,
            size_bytes=self.manifest.size_bytes,
            requirements=self.manifest.requirements,
        )

    def write(self, root: Path) -> None:
        for entry in self.manifest.files:
            path = root / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.blobs[entry.digest])
        (root / "manifest.json").write_bytes(self.blobs[self.digest])


def noise(seed: str, size: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(size)


def artifact(seed: str = "one", size: int = 300_000) -> Artifact:
    """A model of `size` bytes in a sub-folder, and a small probe: right for an agent, no use to a runtime."""
    files = {"net/model.bin": noise(seed, size), "probe.npz": noise(seed + "probe", 100)}
    manifest = Manifest(
        model="m",
        profile=PROFILE,
        target="tflite",
        precision="int8",
        entry="net/model.bin",
        inputs=(),
        outputs=(),
        files=tuple(FileEntry(path=k, digest=digest_of(v), size_bytes=len(v)) for k, v in files.items()),
        requirements=Requirements(),
        probe=GoldenProbe(path="probe.npz", samples=1, atol=0, rtol=0, min_cosine=1),
        quality=Quality(metric="accuracy", value=1, baseline=1, samples=1, how="measured"),
        provenance=Provenance(source=digest("s"), recipe=digest("r"), passes=(), seed=0, toolchain={}),
    )
    data = encode(manifest)
    return Artifact(digest_of(data), manifest, {digest_of(data): data} | {digest_of(v): v for v in files.values()})


@dataclass
class Request:
    """One request the registry got, and how many body bytes it sent."""

    path: str
    range_start: int
    sent: int = 0


# A fault answers one request: it gets the handler, the whole body and where the range starts.
Fault = Callable[["_Handler", bytes, int], None]


def status(code: int) -> Fault:
    def fault(handler: _Handler, _body: bytes, _start: int) -> None:
        handler.answer(code, b"no")

    return fault


def cut(after: int) -> Fault:
    """Promise everything, send `after` bytes, close."""

    def fault(handler: _Handler, body: bytes, start: int) -> None:
        handler.answer(206 if start else 200, body[start : start + after], promise=len(body) - start, start=start)

    return fault


def wrong_byte(handler: _Handler, body: bytes, start: int) -> None:
    handler.answer(206 if start else 200, body[start:-1] + bytes([body[-1] ^ 1]), start=start)


def without_ranges(handler: _Handler, body: bytes, _start: int) -> None:
    handler.answer(200, body)


def endless(handler: _Handler, _body: bytes, _start: int) -> None:
    """Bytes without a promised length, until the other side has had enough."""
    handler.answer(200, b"", promise=None)
    try:
        while True:
            handler.send(b"x" * 65536)
    except OSError:
        pass


def over_long(handler: _Handler, body: bytes, start: int) -> None:
    handler.answer(206 if start else 200, body[start:] + b"more", start=start)


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        spec = self.headers.get("Range", "bytes=0-")
        self.request_log = Request(self.path, int(spec.removeprefix("bytes=").removesuffix("-")))
        self.server.requests.append(self.request_log)
        body = self.server.bodies.get(self.path)
        faults = self.server.faults.get(self.path)
        if faults:
            faults.pop(0)(self, body or b"", self.request_log.range_start)
        elif body is None:
            self.answer(404, b"{}")
        else:
            start = self.request_log.range_start
            self.answer(206 if start else 200, body[start:], start=start)

    def answer(self, code: int, body: bytes, *, promise: int | None = -1, start: int = 0) -> None:
        self.send_response(code)
        if promise is not None:
            self.send_header("Content-Length", str(len(body) if promise < 0 else promise))
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/*")
        if promise is None or promise > len(body):
            self.close_connection = True
        self.end_headers()
        self.send(body)

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.request_log.sent += len(data)

    def log_message(self, *_arguments: object) -> None:
        pass


class Registry(ThreadingHTTPServer):
    """Serves bodies by path. `faults` are used up, the first one first, before right answers are given."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[Request] = []

    def handle_error(self, *_arguments: object) -> None:
        pass  # a client that hung up in the middle

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, *artifacts: Artifact) -> None:
        for one in artifacts:
            self.bodies |= {f"/v1/blobs/{key}": data for key, data in one.blobs.items()}

    def fail(self, key: Digest, *faults: Fault) -> None:
        self.faults[f"/v1/blobs/{key}"] = list(faults)

    def asked(self, key: Digest) -> list[Request]:
        return [request for request in self.requests if request.path == f"/v1/blobs/{key}"]


@contextmanager
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class ScriptedTrials:
    """Trials whose outcome a test decides; `tried` tells what was tried, `hold` keeps a trial until it is aborted."""

    probes: list[bool | Exception] = field(default_factory=list)
    speedup_low: float | None = None
    hold: bool = False
    tried: list[tuple[str, Path, Path | None]] = field(default_factory=list)

    def probe(self, root: Path, abort: Abort) -> ProbeVerdict:
        self.tried.append(("probe", root.resolve(), None))
        outcome = self.probes.pop(0) if self.probes else True
        if isinstance(outcome, Exception):
            raise outcome
        return ProbeVerdict(passed=outcome, samples=1, max_abs_error=None, min_cosine=None, detail="as scripted")

    def benchmark(self, root: Path, against: Path | None, abort: Abort) -> BenchmarkReport:
        self.tried.append(("benchmark", root.resolve(), against))
        while self.hold:
            abort.wait(0.05)
        return report(digest_of((root / "manifest.json").read_bytes()), speedup_low=self.speedup_low)
