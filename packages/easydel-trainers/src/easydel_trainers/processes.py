"""Several processes as one run: joining them, knowing which one speaks, and ending when one is lost.

Every process runs the same program. Process 0 writes logs, reports and trackers; all write their parts of checkpoints.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import jax

from easydel_trainers.errors import ConfigError, ProcessLostError

COORDINATOR, PROCESSES, PROCESS_ID = "EASYDEL_COORDINATOR", "EASYDEL_PROCESSES", "EASYDEL_PROCESS_ID"

#: Exit code of a process that lost another one of its run ("service unavailable" in sysexits.h).
EXIT_PROCESS_LOST = 69

_TALKATIVE = ("easydel", "easydel_trainers", "easydel_models", "easydata_sources", "easydata_mix", "easydata_tokenize")
_HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_FAREWELL = 10  # seconds that an ending process waits for the others


def join_processes(
    coordinator: str | None = None, *, processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the other processes of a run. Call it once, before anything of JAX is used.

    Where nothing is given, the environment says it: `EASYDEL_COORDINATOR` (host:port of process 0), `EASYDEL_PROCESSES`
    and `EASYDEL_PROCESS_ID`, as `easydel launch` sets them; `EASYDEL_PROCESSES=auto` leaves all three to JAX, which
    knows SLURM, Open MPI, GKE and Cloud TPU. Without any of them this is a run of one process, and nothing happens.

    A process of which nothing is heard for 30 seconds is lost; then every other one ends too.

    Args:
        coordinator: address of process 0, `host:port`.
        processes: how many there are.
        process_id: number of this one, from 0.

    Raises:
        ConfigError: if some of the three are known and others are not.
    """
    automatic = os.environ.get(PROCESSES) == "auto"
    if jax.distributed.is_initialized():
        return
    if not automatic:
        coordinator = coordinator or os.environ.get(COORDINATOR)
        processes = _number(PROCESSES) if processes is None else processes
        process_id = _number(PROCESS_ID) if process_id is None else process_id
        known = {COORDINATOR: coordinator, PROCESSES: processes, PROCESS_ID: process_id}
        if all(value is None for value in known.values()):
            return
        for name, value in known.items():
            if value is None:
                raise ConfigError(name, None, "known, as others of the three are: " + ", ".join(known))
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        coordinator_bind_address=_own_address(coordinator) if process_id == 0 else None,
        heartbeat_timeout_seconds=_HEARTBEAT,
        shutdown_timeout_seconds=_FAREWELL,
    )
    sys.excepthook = _end_if_process_lost
    if not is_main_process():
        for package in _TALKATIVE:
            logging.getLogger(package).setLevel(logging.WARNING)


def is_main_process() -> bool:
    """Returns whether this process writes logs, reports and trackers: one of them does."""
    return jax.process_index() == 0


@contextmanager
def losses_named() -> Iterator[None]:
    """Turns what a broken exchange between processes raises into a `ProcessLostError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not _is_of_the_network(error):
            raise
        raise ProcessLostError(str(error)) from error


def end_lost() -> None:
    """Ends this process at once: an orderly end would wait for the one that is lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_PROCESS_LOST)


def _own_address(coordinator: str | None) -> str | None:
    """Returns where process 0 listens: at the address that the others know; `None` = on all interfaces."""
    host = (coordinator or "").rpartition(":")[0]
    if not host:
        return None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        # Another one's address, that of a cluster's service say, which hands on to this machine: left to JAX, which
        # listens to whoever can reach the machine.
        return None
    return coordinator


def _is_of_the_network(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("gloo", "connection", "unavailable", "socket", "nccl", "heartbeat", "peer"))


def _end_if_process_lost(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    if isinstance(error, ProcessLostError):
        end_lost()


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise ConfigError(name, text, "a whole number" + (" or `auto`" if name == PROCESSES else ""))
    return int(text)
