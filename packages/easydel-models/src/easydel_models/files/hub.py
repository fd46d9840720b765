"""From what the user names to a place on this disk: a folder, a .gguf file, or a Hub repository fetched once."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

from easydel_models.errors import ModelNotFoundError
from easydel_models.safe_text import quoted

_FILES = ["config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json"]
_IN_PACKAGE = "package://"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(name: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None) -> Path:
    """Returns the local folder or .gguf file that ``name`` stands for, fetching it only if it is a Hub id.

    Args:
        name: A folder, a ``.gguf`` file, one of these in an installed Python package (``"package://PACKAGE/FILE"``), or
            ``"organisation/model"`` on the Hugging Face Hub.
        revision: Branch, tag or commit on the Hub; None = the default branch. Local names have none.
        token: For private repositories; None = the one `huggingface_hub` has stored, if any.

    Raises:
        ModelNotFoundError: If nothing is there; a mistyped local name never goes to the network.
    """
    if isinstance(name, str) and name.startswith(_IN_PACKAGE):
        return _in_package(name)
    path = Path(name).expanduser()
    try:
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            return path
        is_path = path.exists()
    except OSError as error:  # a name longer than the file system has, a folder that nobody may look into
        raise ModelNotFoundError(f"{quoted(str(name))} cannot be looked at: {error.strerror}.") from error
    if is_path:
        raise ModelNotFoundError(f"{path} is a file; expected a model folder or a .gguf file.")
    if isinstance(name, os.PathLike) or not looks_like_hub_id(name):
        raise ModelNotFoundError(
            f"there is no folder or file {quoted(str(name))} (looked in {path.absolute().parent}), "
            "and it is no Hub id of the form 'organisation/model'."
        )
    return _fetch(name, revision, token)


def _in_package(name: str) -> Path:
    # The package itself is not imported: that may run code, or need things nobody wants for the sake of a file.
    package, _, file = name.removeprefix(_IN_PACKAGE).partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    for folder in folders:
        path = folder / file
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            return path
    reason = f"has no model {file!r}" if folders else "is not installed"
    raise ModelNotFoundError(f"there is no model {name!r}: the Python package {package!r} {reason}.")


def looks_like_hub_id(name: str) -> bool:
    """Returns whether a name is one of a repository rather than that of a file that is not there."""
    # "outputs/modle" where outputs/ exists is a slip of the finger, not a repository.
    return bool(_HUB_ID.fullmatch(name)) and not name.endswith(".gguf") and not Path(name).parent.is_dir()


def _fetch(name: str, revision: str | None, token: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=_FILES))
    except Exception as error:
        raise ModelNotFoundError(
            f"{name!r} is no local folder, and the Hub did not give it (revision {revision or 'default'}): "
            f"{type(error).__name__}. Check the spelling, the network, and for a private repository the token."
        ) from error
