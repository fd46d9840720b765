"""Names of reward functions as a config writes them.

my_package.rewards:correct     a function in a module that can be imported
rewards.py:correct             a function in a file
runs/reward/model              a reward model: a folder, Hub id or .gguf file
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from easydel.cli.errors import CommandError
from easydel.cli.locations import model_location

_IN_FILE = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)")
_IN_MODULE = re.compile(r"(?P<path>\w+(\.\w+)*):(?P<name>\w+)")


def reward_at(name: str) -> Callable[..., Any] | str:
    """The function behind a name, or the location of a reward model.

    Raises:
        CommandError: if there is no such file, module or function.
    """
    for pattern, load in ((_IN_FILE, _file), (_IN_MODULE, _module)):
        if match := pattern.fullmatch(name):
            return _function(load(match["path"]), match["name"], name)
    return model_location(name)


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
