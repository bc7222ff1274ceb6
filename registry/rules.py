"""What the registry holds of a release and of a policy, checked by its clients too before they send anything. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from edgewright.contracts.errors import UserError
from edgewright.contracts.manifest import Manifest
from edgewright.contracts.messages import Policy


def check_one_model(manifests: Iterable[Manifest]) -> None:
    """Raises UserError `release-models-mixed` when the artifacts of a release are not all of one model."""
    models = sorted({manifest.model for manifest in manifests})
    if len(models) > 1:
        raise UserError(
            "release-models-mixed",
            "the artifacts of one release are of several models",
            expected="one model, compiled for several profiles",
            found=", ".join(models),
            next_step="publish each model as a release of its own",
        )


def check_policy(policy: Policy) -> None:
    """Raises UserError `policy-malformed` when a gate in it could never be held."""
    gates = {
        "max_p95_us": policy.max_p95_us,
        "max_memory_bytes": policy.max_memory_bytes,
        "min_speedup": policy.min_speedup,
    }
    for name, value in gates.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError("policy-malformed", f"{name} is no gate", expected="a number above 0", found=str(value))
    if not (math.isfinite(policy.soak_s) and policy.soak_s >= 0):
        raise UserError(
            "policy-malformed", "soak_s is no time", expected="seconds, 0 or more", found=str(policy.soak_s)
        )
