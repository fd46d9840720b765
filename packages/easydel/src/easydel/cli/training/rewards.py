"""Names of reward functions as a config writes them.

my_package.rewards:correct     a function in a module that can be imported
rewards.py:correct             a function in a file
runs/reward/model              a reward model: a folder, Hub id or .gguf file
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from easydel.cli.output.errors import CommandError

_IN_FILE = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)")
_DOTTED = re.compile(r"\w+(\.\w+)+")
_IN_MODULE = re.compile(r"(?P<path>\w+(\.\w+)*):(?P<name>\w+)")


def reward_at(name: str) -> Callable[..., Any] | str:
    """Returns the function behind a name, or the name itself if it is that of a reward model.

    Raises:
        CommandError: if there is no such file, module or function.
    """
    for pattern, load in ((_IN_FILE, _file), (_IN_MODULE, _module)):
        if match := pattern.fullmatch(name):
            return _function(load(match["path"]), match["name"], name)
    if not name.startswith("package://") and (not Path(name).expanduser().exists() or name.endswith(".py")):
        _refuse_half_a_name(name)
    return name


def _refuse_half_a_name(name: str) -> None:
    """Raises for what is neither a function's name nor a model's."""
    if name.endswith(".py"):
        raise CommandError(
            f"{name} is a file of reward functions, and which one is not said: write {name}:FUNCTION"
            f"{_functions_in(Path(name))}."
        )
    if _DOTTED.fullmatch(name):
        module, _, function = name.rpartition(".")
        raise CommandError(
            f"{name} is no model. If it is a function in a module, a colon stands before it: {module}:{function}"
        )


def _functions_in(path: Path) -> str:
    """Returns what a file defines, found without running it."""
    if not path.is_file():
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return ""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return f" (it has {', '.join(names)})" if names else ""


def _file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise CommandError(f"There is no file {path} to take a reward function from; this is {Path.cwd()}.")
    spec = spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Registered as an import would, which dataclasses and pickling in the file rely on.
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module


def _module(path: str) -> ModuleType:
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # of something that the module itself imports
        raise CommandError(
            f"There is no module {path} to take a reward function from. For one in a file, write the file's path: "
            f"{path.replace('.', '/')}.py:NAME"
        ) from None


def _function(module: ModuleType, name: str, whole: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if callable(found):
        return found
    own = {key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    names = sorted(key for key in own if not key.startswith("_"))
    raise CommandError(f"{whole}: there is no function `{name}`; there are {', '.join(names) or 'none'}.")
