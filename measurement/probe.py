"""Golden probes: a few samples with the outputs they must give, and the comparison that decides."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgewright.contracts.errors import ArtifactError
from edgewright.contracts.manifest import GoldenProbe
from edgewright.targets.session import Arrays


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """How an artifact did on its probe. `detail` is for a person and names the first output that is off."""

    passed: bool
    samples: int
    max_abs_error: float
    min_cosine: float
    detail: str


def write_probe(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write the probe file. The same arrays give the same bytes (NumPy dates every member 1980)."""
    arrays = {f"in.{name}": array for name, array in inputs.items()}
    arrays |= {f"out.{name}": array for name, array in outputs.items()}
    np.savez(path, allow_pickle=False, **arrays)


def read_probe(path: Path) -> tuple[Arrays, Arrays]:
    """Inputs and expected outputs.

    Raises:
        ArtifactError: `probe-unreadable`.
    """
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, np.ndarray] = {}
    try:
        # Opened here: NumPy leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for key in file.files:
                side, _, name = key.partition(".")
                (inputs if side == "in" else outputs)[name] = file[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError("probe-unreadable", f"the golden probe {path} cannot be read", found=str(error)) from None
    return inputs, outputs


def compare(probe: GoldenProbe, expected: Arrays, actual: Arrays) -> ProbeResult:
    """Whether `actual` is what the probe demands, by the rule that `GoldenProbe` states."""
    worst_error, worst_cosine, complaint = 0.0, 1.0, ""
    for name, wanted in expected.items():
        got = actual.get(name)
        if got is None or got.shape != wanted.shape:
            found = "missing" if got is None else f"of shape {got.shape}, not {wanted.shape}"
            return ProbeResult(
                passed=False,
                samples=probe.samples,
                max_abs_error=float("inf"),
                min_cosine=-1.0,
                detail=f"output {name!r} is {found}",
            )
        error, cosine, within = _distance(wanted, got, probe)
        worst_error, worst_cosine = max(worst_error, error), min(worst_cosine, cosine)
        if not complaint and not (within and cosine >= probe.min_cosine):
            complaint = (
                f"output {name!r}: largest error {error:.4g} (allowed {probe.atol:.4g} + {probe.rtol:.4g} x value),"
                f" cosine {cosine:.5f} (at least {probe.min_cosine:.5f})"
            )
    return ProbeResult(
        passed=not complaint,
        samples=probe.samples,
        max_abs_error=worst_error,
        min_cosine=worst_cosine,
        detail=complaint or "every sample within tolerance",
    )


def _distance(wanted: np.ndarray, got: np.ndarray, probe: GoldenProbe) -> tuple[float, float, bool]:
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    if not np.isfinite(b).all():
        return float("inf"), -1.0, False
    error = np.abs(a - b)
    within = bool((error <= probe.atol + probe.rtol * np.abs(a)).all())
    return float(error.max(initial=0.0)), _min_cosine(a, b), within


def _min_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest cosine between two samples; an all-zero pair agrees, a zero against a nonzero does not."""
    rows_a, rows_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    norms = np.linalg.norm(rows_a, axis=1) * np.linalg.norm(rows_b, axis=1)
    both_zero = ~rows_a.any(axis=1) & ~rows_b.any(axis=1)
    dots = (rows_a * rows_b).sum(axis=1)
    cosines = np.where(both_zero, 1.0, np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))
    return float(cosines.min(initial=1.0))


def first_sample(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch of one."""
    return {name: array[:1] for name, array in arrays.items()}
