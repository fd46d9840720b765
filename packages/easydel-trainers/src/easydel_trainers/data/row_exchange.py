"""How the processes of a run hand each other the rows that each has prepared.

Rows travel through the key-value store of `jax.distributed`, which every process is connected to anyway: a few bytes a
token, in pieces, each deleted once all have read it. No device takes part, so a thread may do it while steps run. What
travels is JSON and plain arrays: nothing in it can be executed.
"""

from __future__ import annotations

import itertools
import json
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any, final

import jax
import numpy as np

# The store has no public name yet; orbax reaches it in the same way.
from jax._src import distributed

from easydel_trainers.errors import ProcessLostError

Payload = dict[str, Any]

_PIECE = 1 << 20  # bytes of one value: well below what the service accepts in one message
_LOOK = 500  # milliseconds between two looks at whether to wait on
_PATIENCE = 900.0  # seconds that a process may take over its rows
_numbers = itertools.count()


@final
class RowExchange:
    """One stream of payloads between all processes. All must make their exchanges in the same order."""

    def __init__(self) -> None:
        self._client: Any = distributed.global_state.client
        self._name, self._round = f"easydel/rows/{next(_numbers)}", 0
        self._closed = threading.Event()
        self._pieces: dict[int, int] = {}

    def swap(self, own: Payload) -> list[Payload]:
        """Gives away a payload and gets those of all processes, in their order, the own one included.

        Raises:
            ProcessLostError: if a process gives none.
            ExchangeClosed: if this process was told to stop meanwhile.
        """
        self._give(encoded(own))
        payloads = [decoded(self._of(process)) for process in range(jax.process_count())]
        # Whoever gave this round's payload has read all of the round before.
        self._forget(self._round - 1)
        self._round += 1
        return payloads

    def close(self) -> None:
        """Waits for nobody any more."""
        self._closed.set()

    def _give(self, data: bytes) -> None:
        pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
        self._pieces[self._round] = len(pieces)
        for number, piece in enumerate(pieces):
            head = struct.pack("<I", len(pieces))
            self._client.key_value_set_bytes(self._key(self._round, jax.process_index(), number), head + piece)

    def _of(self, process: int) -> bytes:
        first = self._wait(process, 0)
        (count,) = struct.unpack_from("<I", first)
        return b"".join([first[4:], *(self._wait(process, number)[4:] for number in range(1, count))])

    def _wait(self, process: int, number: int) -> bytes:
        key, until = self._key(self._round, process, number), time.monotonic() + _PATIENCE
        while not self._closed.is_set():
            try:
                return self._client.blocking_key_value_get_bytes(key, _LOOK)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error) or time.monotonic() > until:
                    raise ProcessLostError(f"process {process} gave no rows: {error}") from error
        raise ExchangeClosed

    def _forget(self, number: int) -> None:
        for piece in range(self._pieces.pop(number, 0)):
            self._client.key_value_delete(self._key(number, jax.process_index(), piece))

    def _key(self, number: int, process: int, piece: int) -> str:
        return f"{self._name}/{number}/{process}/{piece}"


def open_exchange() -> RowExchange | None:
    """Returns a new exchange; `None` in a run of one process. All processes must open theirs in the same order."""
    return None if jax.process_count() == 1 else RowExchange()


class ExchangeClosed(Exception):
    """The run ended while its thread waited for the rows of others."""


def encoded(payload: Payload) -> bytes:
    """Returns a payload of JSON values and arrays as bytes: a JSON head, then the arrays."""
    arrays: list[np.ndarray] = []
    head = json.dumps(_without_arrays(payload, arrays)).encode()
    return b"".join([struct.pack("<Q", len(head)), head, *(np.ascontiguousarray(array).tobytes() for array in arrays)])


def decoded(data: bytes) -> Payload:
    """Returns the reverse of `encoded`."""
    (size,) = struct.unpack_from("<Q", data)
    return _with_arrays(json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :], [0])


def _without_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, dict):
        return {name: _without_arrays(part, arrays) for name, part in value.items()}
    if isinstance(value, np.ndarray) and value.dtype != object:
        arrays.append(value)
        return {"\0array": [value.dtype.str, list(value.shape)]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [_without_arrays(part, arrays) for part in value]
    return value


def _with_arrays(value: Any, data: memoryview, offset: list[int]) -> Any:
    if isinstance(value, list):
        return [_with_arrays(part, data, offset) for part in value]
    if not isinstance(value, dict):
        return value
    if "\0array" not in value:
        return {name: _with_arrays(part, data, offset) for name, part in value.items()}
    dtype, shape = value["\0array"]
    array = np.frombuffer(data, dtype, count=int(np.prod(shape)), offset=offset[0]).reshape(shape)
    offset[0] += array.nbytes
    return array
