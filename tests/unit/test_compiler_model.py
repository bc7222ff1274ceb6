import logging
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgewright.compiler.data import Dataset, match_inputs
from edgewright.compiler.model import load_model
from edgewright.compiler.recipe import CallableRef
from edgewright.compiler.user_code import importable
from edgewright.contracts.errors import CompileError, EdgewrightError, UserError

X = np.random.default_rng(0).random((5, 1, 4, 4), np.float32)
DATA = Dataset({"x": X}, np.arange(5), named=True, origin="data.calibrate (cal.npz)")

CODE = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)
    def forward(self, x):
        return self.head(self.drop(torch.flatten(self.norm(self.conv(x)), 1)))

def net():
    torch.manual_seed(0)
    return Net()
"""


@dataclass(frozen=True)
class FakeRecipe:
    """What `load_model` reads of a recipe."""

    model: CallableRef | Path
    folder: Path
    weights: Path | None = None
    name: str = "net"


def load(folder: Path, code: str = CODE, weights: Path | None = None, data: Dataset = DATA, attribute: str = "net"):
    (folder / "user_net.py").write_text(code)
    with importable(folder):
        return load_model(FakeRecipe(CallableRef("user_net", attribute), folder, weights), data)[0]


def load_file(path: Path, data: Dataset = DATA):
    return load_model(FakeRecipe(path, path.parent), data)


def refused(function, *args, **kwargs) -> EdgewrightError:
    with pytest.raises(EdgewrightError) as caught:
        function(*args, **kwargs)
    return caught.value


def model_with(forward: str) -> str:
    """The model with another last line of `forward`."""
    return CODE.replace(CODE[CODE.index("        return self.head") : CODE.index("\ndef net")], f"        {forward}\n")


@pytest.fixture
def net() -> torch.nn.Module:
    scope: dict[str, object] = {}
    exec(CODE, scope)  # noqa: S102 - the code stands above
    return scope["net"]()


def test_a_module_is_loaded_in_eval_mode(tmp_path):
    model = load(tmp_path)
    assert model.source.module is not None
    assert not model.source.module.training
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.source.inputs] == [("x", "float32", (-1, 1, 4, 4))]
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.source.outputs] == [("output_0", "float32", (-1, 3))]


def test_size_counts_parameters_and_buffers(tmp_path):
    floats = (2 * 9 + 2) + (2 + 2) + (2 + 2) + (8 * 3 + 3)
    assert load(tmp_path).loaded.size_bytes == 4 * floats + 8  # and one int64 that counts batches


def test_any_number_of_samples_gives_the_same_outputs(tmp_path):
    model = load(tmp_path)
    many = np.concatenate([X] * 30)
    outputs = model.infer({"x": many}, "data")["output_0"]
    assert outputs.shape == (150, 3)
    np.testing.assert_allclose(outputs[:5], model.infer({"x": X}, "data")["output_0"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("forward", "count"),
    [("y = x.flatten(1); return y, y + 1", 2), ("return [x, x, x]", 3), ("return {'a': x, 'b': None, 'c': x}", 2)],
)
def test_several_outputs_are_numbered(tmp_path, forward, count):
    model = load(tmp_path, model_with(forward))
    assert [spec.name for spec in model.source.outputs] == [f"output_{index}" for index in range(count)]
    assert model.source.module is not None
    assert isinstance(model.source.module(torch.from_numpy(X)), tuple)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded(tmp_path, net, suffix):
    torch.nn.init.constant_(net.head.bias, 7.0)
    path = tmp_path / f"weights{suffix}"
    save_file(net.state_dict(), path) if suffix == ".safetensors" else torch.save(net.state_dict(), path)
    model = load(tmp_path, weights=path)
    assert model.source.module is not None
    assert model.source.module.head.bias.tolist() == [7.0] * 3


def test_digest_follows_weights_and_code(tmp_path, net):
    plain = load(tmp_path).loaded.digest
    assert load(tmp_path).loaded.digest == plain
    torch.nn.init.constant_(net.head.bias, 7.0)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    assert load(tmp_path, weights=tmp_path / "weights.safetensors").loaded.digest != plain
    assert load(tmp_path, CODE + "# changed\n").loaded.digest != plain


def test_weights_that_do_not_fit_are_listed(tmp_path, net):
    state = net.state_dict()
    del state["conv.bias"]
    state["tail.weight"] = torch.zeros(1)
    state["head.weight"] = torch.zeros(3, 9)
    save_file(state, tmp_path / "weights.safetensors")
    error = refused(load, tmp_path, weights=tmp_path / "weights.safetensors")
    assert error.code == "weights-do-not-fit"
    assert error.found == (
        "1 missing from the file: conv.bias; 1 not in the model: tail.weight; "
        "1 of another shape: head.weight is 3x9 in the file and 3x8 in the model"
    )


def test_a_wrappers_prefix_is_recognized(tmp_path, net):
    torch.save({f"module.{name}": value for name, value in net.state_dict().items()}, tmp_path / "weights.pt")
    error = refused(load, tmp_path, weights=tmp_path / "weights.pt")
    assert error.code == "weights-do-not-fit"
    assert "'module.'" in str(error.next_step)


def test_of_names_that_share_a_tensor_one_is_enough(tmp_path, net):
    tied = CODE.replace("return Net()", "net = Net(); net.twin = net.head; return net")
    state = {name: torch.full_like(value, 1) for name, value in net.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    module = load(tmp_path, tied, tmp_path / "weights.safetensors").source.module
    assert module is not None
    assert module.twin.bias.tolist() == [1.0] * 3
    state.pop("head.bias")
    save_file(state, tmp_path / "weights.safetensors")
    assert refused(load, tmp_path, tied, tmp_path / "weights.safetensors").code == "weights-do-not-fit"


def test_a_long_list_of_missing_weights_is_cut(tmp_path):
    save_file({}, tmp_path / "weights.safetensors")
    error = refused(load, tmp_path, weights=tmp_path / "weights.safetensors")
    assert "9 missing from the file" in str(error.found)
    assert "and 5 more" in str(error.found)


def test_files_that_hold_no_state_dict_are_unreadable(tmp_path, net):
    torch.save({"epoch": 3, "model": net.state_dict()}, tmp_path / "checkpoint.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "bytes.pt").write_bytes(b"abc")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "bytes.safetensors").write_bytes(b"abc")
    for path in ("checkpoint.pt", "list.pt", "bytes.pt", "empty.pt", "bytes.safetensors"):
        error = refused(load, tmp_path, weights=tmp_path / path)
        assert error.code == "weights-unreadable", path
        assert error.found


class Planted:
    def __reduce__(self):
        return sys.exit, (77,)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"w": Planted()}, tmp_path / "evil.pt")
    error = refused(load, tmp_path, weights=tmp_path / "evil.pt")
    assert error.code == "weights-unreadable"
    assert "sys.exit" in str(error.found)
    assert "weights_only=False" not in str(error)


def test_a_missing_module_names_the_nearest_file(tmp_path):
    (tmp_path / "digits.py").touch()
    with importable(tmp_path):
        error = refused(load_model, FakeRecipe(CallableRef("digit", "net"), tmp_path), DATA)
    assert (error.code, error.next_step) == ("model-module-missing", "did you mean 'digits'?")


def test_a_missing_callable_names_the_nearest(tmp_path):
    error = refused(load, tmp_path, attribute="nett")
    assert (error.code, error.next_step) == ("model-callable-missing", "did you mean 'net'?")


def test_what_is_not_callable_or_no_module_is_told(tmp_path):
    assert refused(load, tmp_path, CODE + "value = 3\n", attribute="value").code == "model-callable-missing"
    assert refused(load, tmp_path, CODE + "def other(): return 3\n", attribute="other").code == "model-not-a-module"


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("import torch\n\nraise RuntimeError('at import')\n", "user_net.py:3"),
        ("def net(:\n", "user_net.py:1"),
        ("import sys\nsys.exit(0)\n", "user_net.py:2"),
        ("def net():\n    return [].pop()\n", "user_net.py:2"),
    ],
)
def test_an_error_in_the_users_code_names_its_line(tmp_path, code, where):
    error = refused(load, tmp_path, code)
    assert error.code == "user-code-failed"
    assert where in str(error.next_step)


def test_a_fault_in_forward_names_its_line(tmp_path):
    error = refused(load, tmp_path, model_with("return self.tail(x)"))
    assert error.code == "model-failed"
    assert "user_net.py:12" in str(error.next_step)
    assert "'tail'" in str(error.found)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 1, 9, 9), (5, 16)])
def test_samples_of_the_wrong_shape_are_told_with_the_models_words(tmp_path, shape):
    error = refused(load, tmp_path, data=Dataset({"x": np.zeros(shape, np.float32)}, None, True, "cal"))
    assert isinstance(error, UserError)
    assert error.code == "data-shape"
    assert "x: float32 (1, " in str(error.found)
    assert "user_net.py:12" in str(error.next_step)


def test_another_number_of_inputs_is_told(tmp_path):
    error = refused(load, tmp_path, data=Dataset({"x": X, "y": X}, None, True, "cal"))
    assert error.code == "data-inputs-differ"
    assert "forward(x)" in str(error.expected)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_nan_in_an_output_names_the_sample(tmp_path, bad):
    model = load(tmp_path, model_with(f"return torch.where(x > 5, float('{bad}'), x)"))
    x = X.copy()
    x[3] = 6.0
    error = refused(model.infer, {"x": x}, "data.evaluate")
    assert isinstance(error, CompileError)
    assert error.code == "model-output-nan"
    assert error.found == "the first for sample 3 of data.evaluate"


def test_nan_for_the_first_sample_is_told_while_loading(tmp_path):
    assert refused(load, tmp_path, model_with("return x / 0")).code == "model-output-nan"


@pytest.mark.parametrize(
    "forward", ["return x - x.mean(0)", "return x + torch.rand(())", "return torch.dropout(x, 0.5, train=True)"]
)
def test_outputs_that_depend_on_the_batch_or_on_chance_are_told(tmp_path, forward):
    assert refused(load, tmp_path, model_with(forward)).code == "model-depends-on-batch"


@pytest.mark.parametrize("forward", ["return x.sum()", "return x.mean(0)[0]", "return 'text'", "return (x, 'text')"])
def test_outputs_that_are_not_one_row_a_sample_are_told(tmp_path, forward):
    assert refused(load, tmp_path, model_with(forward)).code == "model-output-unsupported"


def export(net: torch.nn.Module, path: Path, *, dynamic: bool) -> Path:
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    torch.export.save(torch.export.export(net.eval(), (torch.from_numpy(X[:2]),), dynamic_shapes=shapes), path)
    return path


def test_an_exported_program_gives_the_modules_outputs(tmp_path, net):
    model, _ = load_file(export(net, tmp_path / "net.pt2", dynamic=True))
    expected = net(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(model.infer({"x": X}, "data")["output_0"], expected, atol=1e-6)
    assert model.source.module is not None
    assert model.source.module.eval() is model.source.module


def test_an_exported_program_in_training_mode_is_told(tmp_path, net):
    program = torch.export.export(
        net.train(), (torch.from_numpy(X[:2]),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    assert refused(load_file, tmp_path / "net.pt2").code == "model-depends-on-batch"


def test_a_file_that_is_no_program_is_unreadable_and_logs_no_traceback(tmp_path, net, monkeypatch):
    with (
        zipfile.ZipFile(export(net, tmp_path / "net.pt2", dynamic=False)) as whole,
        zipfile.ZipFile(tmp_path / "broken.pt2", "w") as broken,
    ):
        for name in whole.namelist():
            broken.writestr(name, b"x" if name.endswith(".data/version") else whole.read(name))
    logged: list[object] = []
    monkeypatch.setattr(logging.getLogger("torch.export"), "handle", logged.append)
    assert refused(load_file, tmp_path / "broken.pt2").code == "model-unreadable"
    for name, content in (("a.pt2", b"abc"), ("b.pt2", b"PK\x05\x06" + bytes(18)), ("c.onnx", b"abc")):
        (tmp_path / name).write_bytes(content)
        assert refused(load_file, tmp_path / name).code == "model-unreadable"
    assert logged == []
    assert logging.root.manager.disable == logging.NOTSET


class Reshaped(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).reshape(1, 3)


def test_an_exported_program_of_one_sample_is_taken_if_its_graph_takes_more(tmp_path, net):
    one = (torch.from_numpy(X[:1]),)
    torch.export.save(torch.export.export(net.eval(), one), tmp_path / "free.pt2")
    model, _ = load_file(tmp_path / "free.pt2")
    assert model.infer({"x": X}, "data")["output_0"].shape == (5, 3)
    torch.export.save(torch.export.export(Reshaped(net).eval(), one), tmp_path / "fixed.pt2")
    assert refused(load_file, tmp_path / "fixed.pt2").code == "model-batch-fixed"


@pytest.fixture
def onnx_file(tmp_path, net, capfd) -> Path:
    program = torch.onnx.export(
        net.eval(),
        (torch.from_numpy(X[:2]),),
        dynamo=True,
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    program.save(tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_keeps_its_own_names(onnx_file, net):
    model, calibration = load_file(onnx_file)
    assert list(calibration.inputs) == ["image"]
    assert list(match_inputs(calibration, DATA).inputs) == ["image"]
    assert [spec.name for spec in model.source.outputs] == ["scores"]
    assert model.source.onnx_path == onnx_file
    expected = net(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(model.infer({"image": X}, "data")["scores"], expected, atol=1e-5)
    error = refused(load_file, onnx_file, Dataset({"x": X[:, :, :2]}, None, True, "cal"))
    assert error.code == "data-shape"
