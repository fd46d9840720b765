"""JSON files that others wrote: read whole or refused, whatever they hold."""

import json
from pathlib import Path
from typing import Any

from easydel_models.errors import ConfigError, ModelError, ModelNotFoundError

_MOST_BYTES = 64 << 20  # the index of a model of a million tensors has half of it


def read_json_object(path: Path, *, error: type[ModelError] = ConfigError) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Args:
        path: The file.
        error: What is raised when it holds something else.

    Raises:
        ModelNotFoundError: If there is no such file.
        ModelError: `error`, if it is no UTF-8, no JSON, no object, or larger than 64 MiB.
    """
    if not path.is_file():  # a pipe or a device would never end
        raise ModelNotFoundError(f"{path} is not there; a model folder needs one, and an unfinished save has none.")
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise error(f"{path} has {size:,} bytes; expected a JSON file of at most {_MOST_BYTES:,}.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(f"{path} cannot be read: {failure.strerror}.") from failure
    except RecursionError:
        raise error(f"{path} nests lists or objects deeper than any model's does; fetch it again.") from None
    except ValueError as failure:  # no JSON, no UTF-8, or a number of thousands of digits
        raise error(f"{path} is not valid JSON: {failure}.") from failure
    if not isinstance(content, dict):
        raise error(f"{path} holds a JSON {type(content).__name__}; expected an object.")
    return content
