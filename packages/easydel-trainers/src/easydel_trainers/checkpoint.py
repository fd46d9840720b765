"""Checkpoints: the whole run at one step, written by orbax.

Parameters, optimizer state and step number are arrays; data position, metrics so far, config and versions are one
JSON document beside them. Orbax writes into a temporary folder and renames it when all is there, in a thread, so
training goes on meanwhile and a kill leaves either the whole checkpoint or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from easydel_trainers.errors import CheckpointError
from easydel_trainers.step import TrainState

_PACKAGES = ("easydel-trainers", "easydel-models", "easydel-transforms", "easydata-sources", "jax", "optax")

Meta = dict[str, Any]
HostArrays = Mapping[str, np.ndarray]


class Checkpointer:
    """Checkpoints of one run in one folder. Use as a context manager: leaving waits for the writing thread.

    Args:
        directory: the run's folder; checkpoints go to `checkpoints/<step>` in it.
        keep: how many to keep, newest first; `None` = all.
    """

    def __init__(self, directory: str | Path, *, keep: int | None):
        self._directory = Path(directory).absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            handler_registry=_handlers(),
        )

    def __enter__(self) -> Checkpointer:
        """Nothing to do: the folder exists."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish writing."""
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint, if there is one."""
        return self._manager.latest_step()

    def save(self, state: TrainState, meta: Meta, extras: HostArrays, *, step: int) -> None:
        """Write a checkpoint of `step` in the background. Writing one that is there already does nothing.

        Args:
            state: what the step changes.
            meta: plain values: position, metrics so far, what identifies the run.
            extras: arrays of any shapes that the algorithm keeps on the host.
            step: optimizer steps taken.
        """
        if step == self.latest_step:
            return
        items = {
            "state": ocp.args.StandardSave(state._asdict()),
            "meta": ocp.args.JsonSave(meta | {"versions": installed_versions()}),
        }
        if extras:
            items["extras"] = ocp.args.StandardSave(dict(extras))
        self._manager.save(step, args=ocp.args.Composite(**items))

    def meta(self, step: int) -> Meta:
        """The JSON document of a checkpoint."""
        return dict(self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"])

    def restore(self, like: TrainState, *, step: int) -> tuple[TrainState, HostArrays]:
        """The arrays of a checkpoint, and the algorithm's own.

        Args:
            like: a state of the same shapes, types and placement; its values are not used.
            step: which one.

        Raises:
            CheckpointError: if the checkpoint holds other parameters than this model has.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))
        except ValueError as error:
            raise CheckpointError(
                f"Checkpoint {self._directory / str(step)} does not fit this model or optimizer: {error}. "
                "Continue with the model it was written for, or choose another save_directory."
            ) from error
        return TrainState(**restored["state"]), self._extras(step)

    def _extras(self, step: int) -> HostArrays:
        if not (self._directory / str(step) / "extras").exists():
            return {}
        restored = self._manager.restore(step, args=ocp.args.Composite(extras=ocp.args.StandardRestore()))
        return {name: np.asarray(array) for name, array in restored["extras"].items()}


def installed_versions() -> dict[str, str]:
    """Versions that a run's numbers depend on."""
    return {package: version(package) for package in _PACKAGES}


def refuse_other_run(found: Meta, expected: Meta, *, step: int) -> None:
    """Compare what identifies a run with what a checkpoint says.

    Args:
        found: `identity` of the checkpoint: nested plain values.
        expected: the same of this run.
        step: step of the checkpoint, for the message.

    Raises:
        CheckpointError: naming every value that differs.
    """
    names = sorted(found.keys() | expected.keys())
    differing = [name for name in names if found.get(name) != expected.get(name)]
    if differing:
        lines = [f"  {name}: {found.get(name)!r} then, {expected.get(name)!r} now" for name in differing]
        raise CheckpointError(
            f"The checkpoint of step {step} belongs to another run:\n"
            + "\n".join(lines)
            + "\nUse the values of then, or another save_directory, or resume='never' after removing the old one."
        )


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    # One gigabyte is copied to the host at a time, not the whole state beside the state itself.
    standard, json = ocp.StandardCheckpointHandler(save_concurrent_gb=1), ocp.JsonCheckpointHandler()
    registry.add("state", ocp.args.StandardSave, standard)
    registry.add("state", ocp.args.StandardRestore, standard)
    registry.add("extras", ocp.args.StandardSave, standard)
    registry.add("extras", ocp.args.StandardRestore, standard)
    registry.add("meta", ocp.args.JsonSave, json)
    registry.add("meta", ocp.args.JsonRestore, json)
    return registry
