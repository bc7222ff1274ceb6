"""Report pages of every kind that a compile can give, for tests that look at them."""

from __future__ import annotations

import random

from edgewright.compiler.pages.model import (
    Baseline,
    Figure,
    GoalLine,
    Layer,
    Outcome,
    ReportPage,
    Role,
    SizeStep,
    Unit,
    Variant,
)
from edgewright.contracts.findings import Finding, Severity

BASE = Baseline(
    metric=Figure(value=0.9883, unit=Unit.SHARE, how="measured", where="PyTorch, evaluation data"),
    size_bytes=Figure(value=4_903_976, unit=Unit.BYTES, how="measured", where="parameters and buffers"),
)
LONG = "a-very-long-profile-name-as-somebody-will-surely-write-one-day"


def share(value: float | None, how: str = "measured") -> Figure:
    return Figure(value=value, unit=Unit.SHARE, how=how, where="evaluation data, 10,000 samples")


def size(value: float | None) -> Figure:
    return Figure(value=value, unit=Unit.BYTES, how="measured")


def latency(value: float | None, spread: float = 0.02) -> Figure:
    if value is None:
        return Figure(value=None, unit=Unit.MICROSECONDS, note="this host is x86_64, not aarch64")
    return Figure(
        value=value,
        unit=Unit.MICROSECONDS,
        how="measured",
        low=value * (1 - spread),
        high=value * (1 + spread),
        where="this host",
    )


def ratio(value: float | None) -> Figure:
    if value is None:
        return Figure(value=None, unit=Unit.RATIO, note="float32 was not timed beside it")
    return Figure(value=value, unit=Unit.RATIO, how="measured", low=value * 0.97, high=value * 1.03, where="this host")


def goal(reached: float, needed: float = 0.9783) -> GoalLine:
    return GoalLine(
        name="accuracy: max-degradation 0.01", needed=share(needed), reached=share(reached), is_met=reached >= needed
    )


def outcome(profile: str = "x86-64-avx512-vnni", accuracy: float = 0.9871, **changes: object) -> Outcome:
    fields: dict[str, object] = {
        "profile": profile,
        "board": "Server with AVX512-VNNI",
        "target": "openvino",
        "precision": "int8",
        "is_met": accuracy >= 0.9783,
        "goals": (goal(accuracy),),
        "metric": share(accuracy),
        "size_bytes": size(1_268_704),
        "latency_us": latency(43.1),
        "speedup": ratio(3.42),
        "sizes": (
            SizeStep(name="float32", size_bytes=4_903_976),
            SizeStep(name="openvino int8 artifact", size_bytes=1_268_704),
        ),
        "why": ("openvino is the first runtime of the profile that takes this model",),
    }
    return Outcome(**(fields | changes))  # type: ignore[arg-type]


def page(*outcomes: Outcome, model: str = "digits") -> ReportPage:
    facts = (
        ("model", "sha256:" + "3f" * 32),
        ("recipe", "sha256:" + "a1" * 32),
        ("passes", "ptq(precision=int8)"),
        ("seed", "0"),
        ("torch", "2.13.0"),
        ("openvino", "2026.4.0"),
    )
    return ReportPage(model=model, metric="accuracy", baseline=BASE, outcomes=outcomes, provenance=facts)


def five_profiles() -> ReportPage:
    unmeasured = Finding(
        code="latency-not-measured",
        message="no latency, because this host is not what the artifact is for: machine is x86_64, not aarch64",
        severity=Severity.INFO,
        next_step="roll it out to a Raspberry Pi 4 Model B; its agent measures and reports",
    )
    missed = Finding(
        code="goal-missed",
        message="accuracy: max-degradation 0.01 is missed: accuracy is 0.9412, needed is 0.9783 (fp32: 0.9883)",
        where="features.3.conv.1",
        next_step="give more or more typical calibration data, or build in fp32 with passes: []",
    )
    none = {"latency_us": latency(None), "speedup": ratio(None)}
    return page(
        outcome(),
        outcome("x86-64-avx2", 0.9869, target="tflite", size_bytes=size(1_270_624), speedup=ratio(0.82)),
        outcome("raspberry-pi-4", 0.9869, target="tflite", size_bytes=size(1_270_624), findings=(unmeasured,), **none),
        outcome("raspberry-pi-5", 0.9869, target="tflite", size_bytes=size(1_270_624), findings=(unmeasured,), **none),
        outcome("jetson-orin-nano", 0.9412, target="tensorrt", size_bytes=size(2_460_112), findings=(missed,), **none),
    )


def many_variants(count: int = 30, profile: str = "x86-64-avx512-vnni") -> Outcome:
    chance = random.Random(count)
    variants = [
        Variant(
            name="float32", metric=share(0.9883), size_bytes=size(4_903_976), latency_us=latency(147.0),
            role=Role.BASELINE,
        )
    ]  # fmt: skip
    for index in range(count - 1):
        cost = chance.uniform(36, 190)
        accuracy = 0.9883 - chance.uniform(0, 0.02) - (0.4 if index % 9 == 4 else 0) - max(0, 60 - cost) * 0.0003
        role = Role.CHOSEN if index == 0 else Role.REFUSED if cost > 150 else Role.TRIED
        variants.append(
            Variant(
                name=f"prune {3 * index} % + {'qat' if index % 2 else 'ptq'} int{4 if index % 9 == 4 else 8}",
                metric=share(0.9856 if role is Role.CHOSEN else accuracy),
                size_bytes=size(4_903_976 * chance.uniform(0.02, 0.3)),
                latency_us=latency(41.0 if role is Role.CHOSEN else cost),
                role=role,
                note="slower than float32" if role is Role.REFUSED else "",
            )
        )
    return outcome(profile, 0.9856, variants=tuple(variants))


def layers(count: int = 60, prefix: str = "features") -> tuple[Layer, ...]:
    chance = random.Random(count)
    return tuple(
        Layer(
            name=f"{prefix}.{index // 3}.{('conv', 'depthwise', 'project')[index % 3]}",
            kind="Conv2d",
            precision="int8",
            latency_us=chance.lognormvariate(1, 1),
            sqnr_db=chance.gauss(28, 7),
            recovered=0.012 if index == 17 else None,
        )
        for index in range(count)
    )


def steps(artifact: int = 121_000) -> tuple[SizeStep, ...]:
    return (
        SizeStep(name="float32", size_bytes=4_903_976),
        SizeStep(name="prune_channels", size_bytes=1_420_000, note="62 % of the channels"),
        SizeStep(name="distill", size_bytes=1_420_000),
        SizeStep(name="cluster", size_bytes=1_420_000, note="32 values a layer"),
        SizeStep(name="qat", size_bytes=371_000),
        SizeStep(name="artifact", size_bytes=artifact + 262_000),
        SizeStep(name="compressed", size_bytes=artifact),
    )


def everything() -> ReportPage:
    why = (
        "it is the fastest variant that meets every goal",
        "prune 60 % is 2 µs faster and loses 1.8 points, 0.8 more than the goal allows",
        "int4 is 1.9× slower than float32 on this processor",
    )
    first = many_variants()
    warning = Finding(
        code="sensitive-layer",
        message="features.5.project makes most of the error of quantizing; it stays in float, which costs 1.4 µs",
        where="features.5.project",
        next_step="look at its output's range: one channel is 41 times as wide as the median",
    )
    second = many_variants(12, "raspberry-pi-5")
    return page(
        outcome(
            accuracy=0.9856, variants=first.variants, sizes=steps(), layers=layers(),
            layers_how="latency measured on this host, SQNR simulated on 64 calibration samples", why=why,
            findings=(warning,),
            figures=(("MACs after prune_channels", Figure(value=21_400_000, unit=Unit.COUNT, how="estimated")),),
        ),
        outcome("raspberry-pi-5", 0.9856, variants=second.variants, sizes=steps(140_000), layers=layers(9), why=why),
        model="mobilenet-v2-cifar10",
    )  # fmt: skip


def long_names() -> ReportPage:
    """Names of a length that nobody planned for, some without a place to break."""
    variants = tuple(
        Variant(name=f"{LONG}-{index}-" + "x" * 40, metric=share(0.98 - index * 0.001),
                size_bytes=size(1e6 + index * 3e4),
                latency_us=latency(40 + index), role=Role.CHOSEN if index == 0 else Role.TRIED)
        for index in range(6)
    )  # fmt: skip
    finding = Finding(code="goal-missed", message="M" * 300, where="/".join(["module"] * 60), next_step="n" * 200)
    return page(
        outcome(LONG, 0.95, variants=variants, layers=layers(5, "backbone.stages.blocks." * 6), findings=(finding,),
                board="B" * 60, why=("w" * 200,), target="a-target-of-length",
                sizes=(*steps()[:2], SizeStep(name="s" * 90, size_bytes=10_000))),
        model="organisation/" + "model" * 20,
    )  # fmt: skip


def nothing() -> ReportPage:
    return ReportPage(model="empty")


def all_missing() -> ReportPage:
    return ReportPage(
        model="blind",
        outcomes=(
            Outcome(
                profile="somewhere",
                metric=Figure(value=None, unit=Unit.SHARE, note="there are no labels"),
                size_bytes=size(None),
                latency_us=latency(None),
                speedup=ratio(None),
            ),
        ),
    )


SAMPLES = {
    "one artifact": lambda: page(outcome()),
    "five profiles": five_profiles,
    "thirty variants": lambda: page(many_variants()),
    "everything": everything,
    "long names": long_names,
    "nothing": nothing,
    "all missing": all_missing,
}
