"""The border to the user's own Python: finding it, calling it, and telling its errors apart from ours.

The recipe's folder is on the import path only while a compile runs. What the user's code raises becomes a coded error
with the file and line in that code; a traceback is never shown.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewright.compiler.recipe import CallableRef
from edgewright.contracts.errors import CompileError, EdgewrightError, UserError, did_you_mean

_TERMINATED = 143  # how the command line turns SIGTERM into an exception; not the user's code's doing
_LIBRARIES = tuple(
    {str(Path(path).resolve()) for path in (*site.getsitepackages(), *sysconfig.get_paths().values())}
    | {str(Path(__file__).resolve().parents[1])}
)


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let the modules in `folder` be imported inside the block; afterwards the path and `sys.modules` are as before."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        # Another recipe's folder may hold a module of the same name.
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).resolve().is_relative_to(folder):
                del sys.modules[name]


def find_module(reference: CallableRef, folder: Path) -> None:
    """Look for the module of `reference` without running the user's code, so that a wrong name is told at once.

    Raises:
        UserError: `model-module-missing`.
    """
    top = reference.module.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        raise _module_missing(reference, top, folder)


def load_callable(reference: CallableRef, folder: Path) -> Callable[[], Any]:
    """Import what `reference` names.

    Raises:
        UserError: `model-module-missing`, `model-callable-missing`.
        CompileError: `user-code-failed` when the module raises while it is imported.
    """
    find_module(reference, folder)
    with user_code(f"importing {reference.module}"):
        try:
            module = importlib.import_module(reference.module)
        except ModuleNotFoundError as error:
            if error.name and f"{reference.module}.".startswith(f"{error.name}."):
                raise _module_missing(reference, error.name, folder) from None
            raise
    found: Any = module
    for part in reference.attribute.split("."):
        if not hasattr(found, part):
            raise _callable_missing(reference, module, found, part)
        found = getattr(found, part)
    if not callable(found):
        raise UserError(
            "model-callable-missing",
            f"{reference} is not callable",
            expected="a function or class that can be called without arguments",
            found=type(found).__name__,
        )
    called: Callable[[], Any] = found
    return called


@contextlib.contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Run the user's code in the block. `doing` says what it is asked to do.

    Raises:
        CompileError: `user-code-failed`, with the file and line. Edgewright's own errors pass.
        UserError: `user-import-missing`.
    """
    try:
        yield
    except EdgewrightError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            "user-import-missing",
            f"{doing} needs a Python module that is not installed",
            expected=f"{error.name} in the environment that runs edgewright",
            found=f"{error}, at {location(error)}",
            next_step="install the package that provides it",
        ) from None
    except SystemExit as error:
        if error.code == _TERMINATED:
            raise
        raise _failed(doing, error) from None
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise _failed(doing, error) from None


def location(error: BaseException) -> str:
    """``file:line (function)`` of the innermost frame that is neither a library's nor edgewright's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    if not own:
        return "in a library"
    return f"{own[-1].filename}:{own[-1].lineno} (in {own[-1].name})"


def _is_library(filename: str) -> bool:
    return filename.startswith("<") or str(Path(filename).resolve()).startswith(_LIBRARIES)


def _failed(doing: str, error: BaseException) -> CompileError:
    where = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else location(error)
    text = str(error).strip().split("\n\n")[0]
    return CompileError(
        "user-code-failed",
        f"{doing} failed in the code that the recipe names",
        found=f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__,
        next_step=f"mend {where}",
    )


def _module_missing(reference: CallableRef, missing: str, folder: Path) -> UserError:
    near = [path.stem for path in folder.glob("*.py")] + [path.parent.name for path in folder.glob("*/__init__.py")]
    return UserError(
        "model-module-missing",
        f"there is no Python module '{missing}', which the recipe names in '{reference}'",
        expected=f"{missing}.py in {folder}, or an installed package",
        found=", ".join(sorted(near)[:8]) or "no Python file in that folder",
        next_step=did_you_mean(missing, near, "put the module beside the recipe, or install it"),
    )


def _callable_missing(reference: CallableRef, module: ModuleType, owner: object, part: str) -> UserError:
    public = [name for name in dir(owner) if not name.startswith("_")]
    return UserError(
        "model-callable-missing",
        f"{getattr(module, '__file__', None) or reference.module} has no '{part}', which the recipe names in "
        f"'{reference}'",
        expected="a function or class that can be called without arguments",
        found="no such name",
        next_step=did_you_mean(part, public, "correct the name in the recipe"),
    )
