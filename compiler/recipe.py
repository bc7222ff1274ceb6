"""The recipe: what to compile, with what data, towards which goals, for which hardware. Reading it, strictly.

An unknown key at any level is an error that names the nearest known one; so is a value of the wrong type. Nothing
heavy is imported: a mistake in a recipe is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewright.compiler.goals import KINDS, Goal
from edgewright.compiler.metrics import METRICS
from edgewright.compiler.passes import PassStep, parse_step
from edgewright.compiler.yaml_document import Document, Section, parse
from edgewright.contracts.errors import UserError, did_you_mean
from edgewright.contracts.ids import Digest, digest_of

KEYS = ("name", "model", "weights", "data", "metric", "goals", "passes", "profiles", "seed")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_MODEL_FILES = (".pt2", ".onnx")
_MAX_SEED = 2**63 - 1  # what torch takes
_WEIGHT_FILES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class CallableRef:
    """``package.module:callable``, to be imported with the recipe's folder on the path."""

    module: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True)
class NpzSource:
    """Arrays of an npz file: `inputs` by the order of the model's arguments, and the labels in `target`."""

    path: Path
    inputs: tuple[str, ...]
    target: str | None


@dataclass(frozen=True)
class CallableSource:
    """A function of the user's that returns the data (`data.py` says how)."""

    function: CallableRef


@dataclass(frozen=True)
class ImageSource:
    """A folder with one folder of images a class. `size` is height, width; `limit` the most images to take."""

    folder: Path
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    limit: int | None


Source = NpzSource | CallableSource | ImageSource


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe as written. Paths are resolved against its folder."""

    path: Path
    digest: Digest
    name: str
    model: CallableRef | Path
    weights: Path | None
    calibrate: Source
    evaluate: Source
    metric: str
    goals: tuple[Goal, ...]
    passes: tuple[PassStep, ...]
    profiles: tuple[str, ...]
    seed: int

    @property
    def folder(self) -> Path:
        """The folder whose modules the recipe may name."""
        return self.path.parent


def read_recipe(path: Path) -> Recipe:
    """Read the recipe at `path`.

    Raises:
        UserError: `recipe-missing`, `recipe-malformed`, `recipe-unknown-key`, `recipe-file-missing` (a file that it
            names), `metric-unknown`, `pass-unknown`, `pass-option-unknown`.
    """
    try:
        data = path.read_bytes()
        text = data.decode()
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(
            "recipe-missing",
            "the recipe cannot be read",
            expected="a YAML file",
            found=f"{path}: {error.strerror}",
            next_step="give the recipe's path, from the current folder",
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            "recipe-malformed",
            f"{path}: not UTF-8",
            expected="a YAML file",
            found=str(error),
            next_step="check that it is a recipe, and save it in UTF-8",
        ) from None
    return _parse_recipe(path.resolve(), parse(text, path.name), digest_of(data))


def _parse_recipe(path: Path, document: Document, digest: Digest) -> Recipe:
    top = Section(document, (), document.value, KEYS)
    model = _model(top, path.parent)
    metric = top.text("metric", "one of " + ", ".join(METRICS))
    if metric not in METRICS:
        raise UserError(
            "metric-unknown",
            f"{document.where(('metric',))}: there is no metric '{metric}'",
            expected="one of " + ", ".join(METRICS),
            found=repr(metric),
            next_step=did_you_mean(metric, METRICS, "choose one of these"),
        )
    data = Section(document, ("data",), top.raw("data", "calibrate and evaluate"), ("calibrate", "evaluate"))
    return Recipe(
        path=path,
        digest=digest,
        name=top.text("name", "a text") if "name" in top else _default_name(model),
        model=model,
        weights=_weights(top, path.parent, model),
        calibrate=_source(data, "calibrate", path.parent),
        evaluate=_source(data, "evaluate", path.parent),
        metric=metric,
        goals=_goals(top, metric) if "goals" in top else (),
        passes=_passes(top),
        profiles=_profiles(top) if "profiles" in top else (),
        seed=top.integer("seed", "0 to 2^63 - 1", minimum=0, maximum=_MAX_SEED) if "seed" in top else 0,
    )


def _model(top: Section, folder: Path) -> CallableRef | Path:
    expected = "package.module:callable, or a .pt2 or .onnx file"
    text = top.text("model", expected)
    if text.endswith(_MODEL_FILES):
        return _file(top, "model", text, folder)
    return _reference(top, "model", text, expected)


def _default_name(model: CallableRef | Path) -> str:
    return model.stem if isinstance(model, Path) else model.attribute.rpartition(".")[2]


def _reference(section: Section, key: str, text: str, expected: str) -> CallableRef:
    if not _REFERENCE.fullmatch(text):
        raise section.document.malformed(
            section.at(key), f"'{key}' names nothing that can be loaded", expected=expected, found=text
        )
    module, _, attribute = text.partition(":")
    return CallableRef(module, attribute)


def _weights(top: Section, folder: Path, model: CallableRef | Path) -> Path | None:
    if "weights" not in top:
        return None
    expected = f"a file ending in {', '.join(_WEIGHT_FILES)}"
    text = top.text("weights", expected)
    if isinstance(model, Path):
        raise top.document.malformed(
            top.at("weights"),
            f"'weights' cannot go with {model.name}, which holds its weights already",
            expected="weights only with a model given as package.module:callable",
            found=text,
        )
    if not text.endswith(_WEIGHT_FILES):
        raise top.document.malformed(
            top.at("weights"), "'weights' is of an unknown format", expected=expected, found=text
        )
    return _file(top, "weights", text, folder)


def _file(section: Section, key: str, text: str, folder: Path, *, is_folder: bool = False) -> Path:
    path = folder / text
    try:
        if path.is_dir() if is_folder else path.is_file():
            return path
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        found = "a file of another kind" if path.exists() else "nothing there"
    except OSError as error:
        siblings, found = [], str(error.strerror)
    raise UserError(
        "recipe-file-missing",
        f"{section.document.where(section.at(key))}: there is no {'folder' if is_folder else 'file'} {text}",
        expected=str(path),
        found=found,
        next_step=did_you_mean(path.name, siblings, "paths are relative to the recipe's folder"),
    )


def _source(data: Section, key: str, folder: Path) -> Source:
    """A source of samples: ``module:callable``, or a mapping with exactly one of npz, callable, images."""
    expected = "module:callable, {npz: FILE, …}, {callable: module:callable} or {images: FOLDER, …}"
    value = data.raw(key, expected)
    if isinstance(value, str):
        return CallableSource(_reference(data, key, value, expected))
    document, path = data.document, data.at(key)
    kinds = [kind for kind in _SOURCES if isinstance(value, dict) and kind in value]
    if len(kinds) != 1:
        # Of a misspelt kind, the nearest is named; of two kinds at once, both.
        known = ("inputs", "target", "size", "mean", "std", "limit", *_SOURCES)
        Section(document, path, value, known)
        raise document.malformed(
            path, f"data.{key} does not name one source of data", expected=expected, found=kinds or value
        )
    known_keys, read = _SOURCES[kinds[0]]
    return read(Section(document, path, value, known_keys), folder)


def _npz(section: Section, folder: Path) -> NpzSource:
    inputs = section.texts("inputs", "a list of the inputs' names in the file")
    if not inputs or len(set(inputs)) != len(inputs):
        raise section.document.malformed(
            section.at("inputs"), "'inputs' is empty or names one twice", expected="[x]", found=list(inputs)
        )
    target = section.text("target", "the labels' name in the file") if "target" in section else None
    return NpzSource(_file(section, "npz", section.text("npz", "a file"), folder), inputs, target)


def _callable(section: Section, folder: Path) -> CallableSource:  # noqa: ARG001 - one signature for all rows
    expected = "module:callable"
    return CallableSource(_reference(section, "callable", section.text("callable", expected), expected))


def _images(section: Section, folder: Path) -> ImageSource:
    height, width = section.integers("size", "[height, width]", count=2, minimum=1)
    three = "three numbers, for red, green and blue"
    std = section.numbers("std", three, 3) if "std" in section else (1.0, 1.0, 1.0)
    if min(std) <= 0:
        raise section.document.malformed(section.at("std"), "'std' must be above 0", expected=three, found=list(std))
    return ImageSource(
        folder=_file(section, "images", section.text("images", "a folder"), folder, is_folder=True),
        size=(height, width),
        mean=section.numbers("mean", three, 3) if "mean" in section else (0.0, 0.0, 0.0),
        std=std,
        limit=section.integer("limit", "a whole number, 1 or above", minimum=1) if "limit" in section else None,
    )


_SOURCES: Mapping[str, tuple[tuple[str, ...], Callable[[Section, Path], Source]]] = {
    "npz": (("npz", "inputs", "target"), _npz),
    "callable": (("callable",), _callable),
    "images": (("images", "size", "mean", "std", "limit"), _images),
}


def _goals(top: Section, metric: str) -> tuple[Goal, ...]:
    by_metric = Section(top.document, ("goals",), top.raw("goals", "{METRIC: {GOAL: NUMBER}}"), METRICS)
    if metric not in by_metric:
        raise top.document.malformed(
            ("goals",),
            "'goals' are for another metric than the one that is evaluated",
            expected=f"goals for '{metric}'",
            found=top.raw("goals", ""),
        )
    for other in METRICS:
        if other != metric and other in by_metric:
            raise top.document.malformed(
                by_metric.at(other), f"'{other}' is not evaluated", expected=f"goals for '{metric}' only", found=other
            )
    path = by_metric.at(metric)
    kinds = Section(top.document, path, by_metric.raw(metric, "{GOAL: NUMBER}"), KINDS)
    return tuple(Goal(metric, kind, kinds.number(kind, "a number")) for kind in KINDS if kind in kinds)


def _passes(top: Section) -> tuple[PassStep, ...]:
    expected = "a list such as [{ptq: {precision: int8}}], or [] for a float32 build"
    value = top.raw("passes", expected)
    if not isinstance(value, list):
        raise top.document.malformed(top.at("passes"), "'passes' is not a list", expected=expected, found=value)
    steps = []
    for index, item in enumerate(value):
        path = ("passes", index)
        entry: Mapping[str, object] = {item: None} if isinstance(item, str) else item
        if not isinstance(entry, dict) or len(entry) != 1:
            raise top.document.malformed(
                path, "an entry of 'passes' is not one pass", expected="{PASS: {OPTION: VALUE}}", found=item
            )
        name, options = next(iter(entry.items()))
        steps.append(parse_step(top.document, path, str(name), {} if options is None else options))
    names = [step.name for step in steps]
    if len(set(names)) != len(names):
        raise top.document.malformed(top.at("passes"), "a pass stands twice", expected="each pass once", found=names)
    return tuple(steps)


def _profiles(top: Section) -> tuple[str, ...]:
    profiles = top.texts("profiles", "a list of hardware profiles")
    if len(set(profiles)) != len(profiles):
        raise top.document.malformed(
            top.at("profiles"), "a profile stands twice", expected="each profile once", found=list(profiles)
        )
    return profiles
