import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.goals import Goal
from edgewright.compiler.recipe import CallableRef, CallableSource, ImageSource, NpzSource, read_recipe
from edgewright.compiler.yaml_document import parse
from edgewright.contracts.errors import UserError

RECIPE = """\
model: digits:student
weights: digits.safetensors
data:
  calibrate: {npz: cal.npz, inputs: [x], target: y}
  evaluate: {callable: digits:evaluation}
metric: accuracy
goals: {accuracy: {max-degradation: 0.01}}
passes: [{ptq: {precision: int8}}]
profiles: [raspberry-pi-4, jetson-orin-nano]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("digits.safetensors", "cal.npz", "net.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "images").mkdir()
    return tmp_path


def read(folder: Path, text: str):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


def refused(folder: Path, text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        read(folder, text)
    return caught.value


def edited(**changes) -> str:
    """The recipe with some of its top keys changed; None takes one away."""
    document = yaml.safe_load(RECIPE) | changes
    return yaml.safe_dump({key: value for key, value in document.items() if value is not None})


def test_a_recipe_is_read(folder):
    recipe = read(folder, RECIPE)
    assert recipe.model == CallableRef("digits", "student")
    assert recipe.name == "student"
    assert recipe.weights == folder / "digits.safetensors"
    assert recipe.calibrate == NpzSource(folder / "cal.npz", ("x",), "y")
    assert recipe.evaluate == CallableSource(CallableRef("digits", "evaluation"))
    assert recipe.goals == (Goal("accuracy", "max-degradation", 0.01),)
    assert [str(step) for step in recipe.passes] == ["ptq(precision=int8)"]
    assert recipe.profiles == ("raspberry-pi-4", "jetson-orin-nano")
    assert recipe.seed == 0


def test_goals_weights_and_profiles_may_be_left_out(folder):
    recipe = read(folder, edited(goals=None, weights=None, profiles=None))
    assert (recipe.goals, recipe.weights, recipe.profiles) == ((), None, ())


def test_no_passes_mean_a_float_build(folder):
    assert read(folder, edited(passes=[])).passes == ()


def test_a_pass_by_its_name_alone_has_its_default_options(folder):
    assert read(folder, edited(passes=["ptq"])).passes == read(folder, RECIPE).passes


def test_a_model_file_names_the_model(folder):
    recipe = read(folder, edited(model="net.onnx", weights=None))
    assert recipe.model == folder / "net.onnx"
    assert recipe.name == "net"


def test_a_data_source_may_be_a_callable_or_images(folder):
    images = {"images": "images", "size": [8, 6], "mean": [0.5, 0.5, 0.5], "limit": 3}
    recipe = read(folder, edited(data={"calibrate": images, "evaluate": "digits:evaluation"}))
    assert recipe.calibrate == ImageSource(folder / "images", (8, 6), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), 3)
    assert recipe.evaluate == CallableSource(CallableRef("digits", "evaluation"))


@pytest.mark.parametrize(
    ("old", "new", "line", "nearest"),
    [
        ("metric:", "metrik:", 6, "metric"),
        ("calibrate:", "calibrat:", 4, "calibrate"),
        ("inputs:", "input:", 4, "inputs"),
        ("npz:", "npy:", 4, "npz"),
        ("max-degradation:", "max-degradaton:", 7, "max-degradation"),
        ("{accuracy:", "{acuracy:", 7, "accuracy"),
        ("profiles:", "profile:", 9, "profiles"),
    ],
)
def test_an_unknown_key_is_told_with_its_line_and_the_nearest(folder, old, new, line, nearest):
    error = refused(folder, RECIPE.replace(old, new))
    assert error.code == "recipe-unknown-key"
    assert f"recipe.yaml:{line}:" in error.what
    assert f"'{new.strip('{:')}'" in error.what
    assert error.next_step == f"did you mean '{nearest}'?"


def test_an_unknown_pass_and_an_unknown_option_name_the_nearest(folder):
    error = refused(folder, RECIPE.replace("ptq", "ptqq"))
    assert (error.code, error.next_step) == ("pass-unknown", "did you mean 'ptq'?")
    error = refused(folder, RECIPE.replace("precision", "precison"))
    assert (error.code, error.next_step) == ("pass-option-unknown", "did you mean 'precision'?")
    assert "recipe.yaml:8:" in error.what


def test_an_unknown_metric_names_the_nearest(folder):
    error = refused(folder, RECIPE.replace("metric: accuracy", "metric: accurracy"))
    assert (error.code, error.next_step) == ("metric-unknown", "did you mean 'accuracy'?")


def test_a_missing_file_names_the_nearest(folder):
    error = refused(folder, RECIPE.replace("cal.npz", "call.npz"))
    assert (error.code, error.next_step) == ("recipe-file-missing", "did you mean 'cal.npz'?")


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": 3},
        {"model": "digits"},
        {"model": "digits:"},
        {"model": "../digits:student"},
        {"weights": "digits.bin"},
        {"model": "net.onnx"},
        {"data": None},
        {"data": []},
        {"data": {"calibrate": "digits:evaluation"}},
        {"data": {"calibrate": "digits:evaluation", "evaluate": "cal.npz"}},
        {"data": {"calibrate": "m:f", "evaluate": {"npz": "cal.npz", "inputs": "x"}}},
        {"data": {"calibrate": "m:f", "evaluate": {"npz": "cal.npz", "inputs": []}}},
        {"data": {"calibrate": "m:f", "evaluate": {"npz": "cal.npz", "inputs": ["x"], "callable": "m:f"}}},
        {"data": {"calibrate": "m:f", "evaluate": {"inputs": ["x"]}}},
        {"data": {"calibrate": "m:f", "evaluate": {"images": "images", "size": [0, 8]}}},
        {"data": {"calibrate": "m:f", "evaluate": {"images": "images", "size": 8}}},
        {"data": {"calibrate": "m:f", "evaluate": {"images": "images", "size": [8, 8], "std": [1, 0, 1]}}},
        {"goals": {"accuracy": {"max-degradation": "little"}}},
        {"goals": {"accuracy": {"max-degradation": True}}},
        {"goals": {"accuracy": {"max-degradation": float("nan")}}},
        {"goals": {"top5": {"threshold": 0.9}}},
        {"goals": {"accuracy": {"threshold": 0.9}, "top5": {"threshold": 0.9}}},
        {"passes": None},
        {"passes": {"ptq": {}}},
        {"passes": [{"ptq": {"precision": "int4"}}]},
        {"passes": [{"ptq": 8}]},
        {"passes": ["ptq", "ptq"]},
        {"profiles": "raspberry-pi-4"},
        {"profiles": ["a", "a"]},
        {"profiles": [3]},
        {"seed": -1},
        {"seed": True},
    ],
)
def test_a_wrong_value_is_malformed_and_says_what_is_right(folder, change):
    error = refused(folder, edited(**change))
    assert error.code == "recipe-malformed"
    assert error.expected
    assert error.found


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "text", "a: 1\na: 2\n", "\x00", "a: &a [*a]", "? [x]\n: 1\n"])
def test_what_is_no_mapping_is_malformed(folder, text):
    assert refused(folder, text).code in {"recipe-malformed", "recipe-unknown-key"}


def test_a_key_that_stands_twice_is_told_with_both_lines(folder):
    error = refused(folder, RECIPE + "metric: cosine\n")
    assert error.code == "recipe-malformed"
    assert "recipe.yaml:10:" in error.what
    assert "line 6" in str(error.found)


def test_aliases_of_aliases_are_walked_once():
    levels = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 17))]
    assert len(parse("\n".join(levels), "recipe.yaml").lines) < 100


def test_a_recipe_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_recipe(tmp_path / "none.yaml")
    assert caught.value.code == "recipe-missing"


def test_bytes_that_are_no_text_are_malformed(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert caught.value.code == "recipe-malformed"


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


def _paths(value, path=()):
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _paths(item, (*path, key))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused_by_name(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "recipes"
    folder.mkdir(exist_ok=True)
    for name in ("digits.safetensors", "cal.npz"):
        (folder / name).touch()
    document = copy.deepcopy(yaml.safe_load(RECIPE))
    path = data.draw(st.sampled_from([path for path in _paths(document) if path]))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(_values)
    try:
        read(folder, yaml.safe_dump(document))
    except UserError as error:
        assert error.next_step or error.expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab:{}[]&*!?|>-# \n\"'\t%@0.é"), max_size=40))
def test_any_text_parses_or_is_malformed(text):
    try:
        parse(text, "recipe.yaml")
    except UserError as error:
        assert error.code == "recipe-malformed"
