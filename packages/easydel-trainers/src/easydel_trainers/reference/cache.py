"""Log-probabilities of the reference model, computed once and looked up by the tokens they belong to.

The key is a hash of a sequence's tokens and of which of them are scored; the folder is named after a fingerprint of
the reference model and of how it is run. So a cache cannot be taken for another one's, and rows that come again, in a
later epoch or another run, are not scored twice.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from easydel_models.mesh.sharding import to_host
from easydel_models.parameters import flattened

from easydel_trainers.data.step_rows import StepRow
from easydel_trainers.errors import ConfigError

_DIGEST_BYTES = 16


@final
class ReferenceCache:
    """Log-probabilities by sequence, in memory, and in a folder if there is one.

    Args:
        folder: where they are kept between runs; `None` = nowhere.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._known: dict[bytes, float] = {}
        for path in [] if folder is None else sorted(folder.glob("*.npz")):
            self._known.update(_read(path))

    def __len__(self) -> int:
        """Returns sequences known."""
        return len(self._known)

    def lacks(self, step_row: StepRow) -> bool:
        """Returns whether any of its sequences is unknown."""
        return any(sequence_key(sequence) not in self._known for sequence in step_row.sequences)

    def add(self, step_rows: Sequence[StepRow], logps: np.ndarray) -> None:
        """Takes in the log-probabilities `[rows, sequences]` of some rows, in memory and in the folder."""
        keys = [sequence_key(sequence) for step_row in step_rows for sequence in step_row.sequences]
        values = np.asarray(logps, np.float32).reshape(-1)
        self._known.update(zip(keys, values.tolist(), strict=True))
        if self._folder is not None:
            _write(self._folder, keys, values)

    def annotated(self, step_rows: Iterable[StepRow]) -> list[StepRow]:
        """Returns the step rows with `reference_logps` among their values.

        Raises:
            ConfigError: if a row was never scored.
        """
        return [replace(row, values={**row.values, "reference_logps": self._of(row)}) for row in step_rows]

    def _of(self, step_row: StepRow) -> list[float]:
        try:
            return [self._known[sequence_key(sequence)] for sequence in step_row.sequences]
        except KeyError:
            raise ConfigError(
                "precompute_ref_log_probs",
                True,
                "rows that were scored before training. These were not, and the reference model is no longer held: "
                "give them as eval_dataset when the trainer is made, or precompute_ref_log_probs=False",
            ) from None


def sequence_key(sequence: Mapping[str, Any]) -> bytes:
    """Returns a hash of all per-token arrays of a sequence."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name in sorted(sequence):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(sequence[name], np.int32).tobytes() + b"\0")
    return digest.digest()


def fingerprint(params: Any, *how: object) -> str:
    """Returns a hash of a model's parameters and of how it is run, for the name of a folder."""
    digest = hashlib.blake2b(repr(how).encode(), digest_size=_DIGEST_BYTES)
    for path, leaf in sorted(flattened(params).items()):
        array = to_host(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _read(path: Path) -> dict[bytes, float]:
    with np.load(path, allow_pickle=False) as stored:
        keys, logps = stored["keys"], stored["logps"]
    return dict(zip((key.tobytes() for key in keys), logps.tolist(), strict=True))


def _write(folder: Path, keys: Sequence[bytes], logps: np.ndarray) -> None:
    """Writes one file under the name of its contents, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(b"".join(keys), digest_size=_DIGEST_BYTES).hexdigest()
    table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _DIGEST_BYTES)
    descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, keys=table, logps=logps)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / f"{name}.npz")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
