"""The manifest: what an artifact is, what it needs, and how to tell that it is right.

An artifact is a folder: `manifest.json` and the files it lists. Its digest is the digest of its manifest's bytes, and
the manifest lists each file's digest, so one digest vouches for everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import Digest, ProfileId, parse_digest, parse_profile_id

MANIFEST_NAME = "manifest.json"
MANIFEST_SCHEMA = 1
MAX_FILES = 256


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output. `shape` counts the batch dimension; -1 means any size. `dtype` is NumPy's name."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of the artifact. `path` is relative to the artifact's folder, with forward slashes."""

    path: str
    digest: Digest
    size_bytes: int

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        unsafe = (
            not path.parts  # "" and "."
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in self.path
            or "\0" in self.path
            or str(path) != self.path
            or self.path == MANIFEST_NAME
        )
        if unsafe:
            raise UserError(
                "manifest-path-unsafe",
                "a file's path in the manifest leaves the artifact's folder or is not in its plain form",
                expected="a relative path such as model.xml",
                found=repr(self.path[:200]),
            )
        parse_digest(self.digest)
        if self.size_bytes < 0:
            raise UserError("manifest-malformed", f"size of {self.path} is negative", found=str(self.size_bytes))


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a device must have to run the artifact. All of it is checked before a byte is downloaded.

    Attributes:
        machine: `uname -m` values, e.g. ``("x86_64",)``; empty: any.
        cpu_flags: names as in /proc/cpuinfo; all of them are needed.
        runtimes: runtime name to a version range such as ``>=2026.0,<2027``; having one of them is enough.
        memory_bytes: free memory needed to load and run it.
        sm: CUDA compute capability times ten (87 for Orin); None: no GPU needed.
    """

    machine: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()
    runtimes: dict[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    sm: int | None = None


@dataclass(frozen=True, kw_only=True)
class GoldenProbe:
    """A few samples with the outputs they must give.

    The file is an npz with arrays ``in.<input name>`` and ``out.<output name>``, sample by sample along axis 0. An
    output y passes against its expectation e where ``|y - e| <= atol + rtol * |e|`` for every element, and the
    cosine of the two, sample by sample, is at least `min_cosine`.
    """

    path: str
    samples: int
    atol: float
    rtol: float
    min_cosine: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the artifact scored on the evaluation data, and what the FP32 model scored there.

    `how` is ``measured`` (the built artifact ran on this host) or ``simulated`` (another runtime stood in for it).
    """

    metric: str
    value: float
    baseline: float
    samples: int
    how: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an artifact comes from. Versions are by distribution name; digests are of bytes."""

    source: Digest
    recipe: Digest
    passes: tuple[str, ...]
    seed: int
    toolchain: dict[str, str]


Option = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a registry and a device need to know of one artifact."""

    model: str
    profile: ProfileId
    target: str
    precision: str
    entry: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[FileEntry, ...]
    requirements: Requirements
    probe: GoldenProbe
    quality: Quality
    provenance: Provenance
    options: dict[str, Option] = field(default_factory=dict)
    schema: int = MANIFEST_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != MANIFEST_SCHEMA:
            raise UserError(
                "manifest-schema-unknown",
                "the manifest is of a schema this version does not read",
                expected=str(MANIFEST_SCHEMA),
                found=str(self.schema),
                next_step="use a version of edgewright that reads it",
            )
        parse_profile_id(self.profile)
        paths = [entry.path for entry in self.files]
        if len(paths) > MAX_FILES:
            raise UserError(
                "manifest-too-many-files", "too many files", expected=f"<= {MAX_FILES}", found=str(len(paths))
            )
        if len(set(paths)) != len(paths):
            raise UserError("manifest-malformed", "the manifest lists a file twice")
        for needed in (self.entry, self.probe.path):
            if needed not in paths:
                raise UserError("manifest-malformed", f"the manifest names {needed} and does not list it")

    @property
    def size_bytes(self) -> int:
        """Size of all files, without the manifest."""
        return sum(entry.size_bytes for entry in self.files)
