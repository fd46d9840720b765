"""Checkpoints: the whole run at one step, written by orbax.

Parameters, optimizer state and step number are arrays; data position, metrics so far, config and versions are one
JSON document beside them. Orbax writes into a temporary folder and renames it when all is there, in a thread, so
training goes on meanwhile and a kill leaves either the whole checkpoint or none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from easydel_trainers.checkpoints.manifest import damage, write_manifest
from easydel_trainers.errors import CheckpointError
from easydel_trainers.step.step import TrainState

_LOG = logging.getLogger(__name__)
_PACKAGES = ("easydel-trainers", "easydel-models", "easydel-transforms", "easydata-sources", "jax", "optax")

_FOREVER = 100 * 365 * 24 * 3600  # seconds

#: In a run's folder; holds a folder for every checkpoint, named after its step.
CHECKPOINTS_FOLDER = "checkpoints"
#: In a checkpoint's folder: the JSON document beside its arrays, where orbax writes it.
META_FILE = "meta/metadata"

Meta = dict[str, Any]
HostArrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Orbax's question which checkpoints stay, answered by us: it knows of no evaluation from before a restart."""

    newest: int | None
    best_step: Callable[[], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns one answer for each checkpoint, oldest first."""
        del context
        superseded = self.superseded([found.step for found in checkpoints])
        return [found.step not in superseded for found in checkpoints]

    def superseded(self, steps: Sequence[int]) -> set[int]:
        """Returns which of these steps, oldest first, nobody needs any more."""
        return set() if self.newest is None else set(steps[: -self.newest]) - {self.best_step()}


class Checkpointer:
    """Checkpoints of one run in one folder. To be closed, which waits for the writing thread.

    Args:
        directory: the run's folder; checkpoints go to `checkpoints/<step>` in it.
        keep: how many to keep, newest first; `None` = all.
        best_step: the step whose checkpoint is kept too, however old; asked whenever one is written.
    """

    def __init__(self, directory: str | Path, *, keep: int | None, best_step: Callable[[], int | None]):
        self._run_directory = Path(directory).absolute()
        self._directory = self._run_directory / CHECKPOINTS_FOLDER
        self._kept = _Kept(keep, best_step)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self._kept,
                create=True,
                cleanup_tmp_directories=True,
                async_options=_async_options(self._before_rename),
            ),
            handler_registry=_handlers(),
        )

    def close(self) -> None:
        """Finishes writing.

        Raises:
            CheckpointError: if what was being written could not be.
        """
        if (failure := self._failure_of(self._manager.close)) is not None:
            raise failure

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, if there is one."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints there are."""
        return list(self._manager.all_steps())

    def newest_whole_step(self) -> int | None:
        """Step of the newest checkpoint whose files are all as they were written, if there is one.

        Newer ones that are damaged are moved to `damaged/` in the run's folder, and a warning says so.
        """
        while (step := self.latest_step) is not None:
            found = self._damage(step)
            if found is None:
                return step
            self._move_aside(step, found)
        return None

    def whole(self, step: int) -> bool:
        """Returns whether the checkpoint of a step is there, with all files as they were written.

        One that is damaged is moved to `damaged/` in the run's folder, and a warning says so.
        """
        if step not in self.steps:
            return False
        found = self._damage(step)
        if found is not None:
            self._move_aside(step, found)
        return found is None

    def remove_superseded(self) -> None:
        """Removes what a kill between the writing of a checkpoint and the removal of older ones has left."""
        for step in sorted(self._kept.superseded(sorted(self.steps))):
            self._manager.delete(step)

    def save(self, state: TrainState, meta: Meta, extras: HostArrays, *, step: int) -> None:
        """Writes a checkpoint of `step` in the background. Writing one that is there already does nothing.

        Args:
            state: what the step changes.
            meta: plain values: position, metrics so far, what identifies the run.
            extras: arrays of any shapes that the algorithm keeps on the host.
            step: optimizer steps taken.

        Raises:
            CheckpointError: if this one, or the one before in the background, could not be written.
        """
        if step == self.latest_step:
            return
        items = {
            "state": ocp.args.PyTreeSave(state._asdict()),
            "meta": ocp.args.JsonSave(meta | {"versions": installed_versions()}),
        }
        if extras:
            items["extras"] = ocp.args.PyTreeSave(dict(extras))
        # What became of the one before is asked first: orbax would raise that here, and not write this one.
        before = self._failure_of(self._manager.wait_until_finished)
        failure = self._failure_of(lambda: self._manager.save(step, args=_composite(items))) or before
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
            CheckpointError: if something could not be.
        """
        if (failure := self._failure_of(self._manager.wait_until_finished)) is not None:
            raise failure

    def meta(self, step: int) -> Meta:
        """Returns the JSON document of a checkpoint."""
        return dict(self._manager.restore(step, args=_composite({"meta": ocp.args.JsonRestore()}))["meta"])

    def restore(self, like: TrainState, *, step: int) -> tuple[TrainState, HostArrays]:
        """Returns the arrays of a checkpoint, and the algorithm's own.

        Args:
            like: a state of the same shapes, types and placement; its values are not used.
            step: which one.

        Raises:
            CheckpointError: if the checkpoint holds other parameters than this model has.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        wanted = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract))
        try:
            restored = self._manager.restore(step, args=_composite({"state": wanted}))
        except ValueError as error:
            raise CheckpointError(
                f"Checkpoint {self._directory / str(step)} does not fit this model or optimizer: {error}. "
                "Continue with the model it was written for, or choose another save_directory."
            ) from error
        return TrainState(**restored["state"]), self._extras(step)

    def _extras(self, step: int) -> HostArrays:
        if not (self._directory / str(step) / "extras").exists():
            return {}
        restored = self._manager.restore(step, args=_composite({"extras": ocp.args.PyTreeRestore()}))
        return {name: np.asarray(array) for name, array in restored["extras"].items()}

    def _before_rename(self) -> None:
        """Called in the writing thread when all items are there, on the one process that will rename the folder."""
        for folder in self._directory.glob("*.orbax-checkpoint-tmp*"):
            write_manifest(folder)

    def _damage(self, step: int) -> str | None:
        """Returns what is wrong with a checkpoint's files, the same on every process; `None` = nothing."""
        if jax.process_count() == 1:
            return damage(self._directory / str(step))
        # One reads the files; had the others another answer, they would resume from different steps.
        found = damage(self._directory / str(step)) if jax.process_index() == 0 else None
        damaged = multihost_utils.broadcast_one_to_all(np.int32(found is not None))
        return (found or "process 0 found it damaged") if damaged else None

    def _move_aside(self, step: int, found: str) -> None:
        target = self._run_directory / "damaged" / str(step)
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            (self._directory / str(step)).rename(_unused(target))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoint moved aside")
        _LOG.warning(
            "DAMAGED CHECKPOINT: that of step %d in %s is not used, since %s. It was moved to %s; an older one is "
            "tried. Look for the cause before you trust the disk.",
            *(step, self._directory, found, target),
        )
        self._manager.reload()

    def _failure_of(self, write: Callable[[], object]) -> CheckpointError | None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - of the file system, in the words of several libraries: told, raised
            failure = self._not_written(error)
            failure.__cause__ = error
            return failure
        return None

    def _not_written(self, error: Exception) -> CheckpointError:
        # Orbax counts a checkpoint as there once it has begun to write it: look at the disk again.
        self._manager.reload()
        return CheckpointError(
            f"A checkpoint could not be written to {self._directory}: {error}. The newest whole one is of step "
            f"{self.latest_step}. Make room, or choose another save_directory."
        )


def installed_versions() -> dict[str, str]:
    """Returns versions that a run's numbers depend on."""
    return {package: version(package) for package in _PACKAGES}


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns one line for every name whose value in a checkpoint is not the present one."""
    names = sorted(found.keys() | expected.keys())
    return [
        f"{name}: {found.get(name)!r} then, {expected.get(name)!r} now"
        for name in names
        if found.get(name) != expected.get(name)
    ]


def refuse_other_run(meta: Meta, identity: Mapping[str, Any], *, step: int) -> None:
    """Compares what identifies a run, and the versions its numbers depend on, with what a checkpoint says.

    Args:
        meta: the checkpoint's JSON document.
        identity: nested plain values of this run.
        step: step of the checkpoint, for the message.

    Raises:
        CheckpointError: naming every value that differs.
    """
    lines = differences(meta["identity"], identity) + differences(meta["versions"], installed_versions())
    if lines:
        raise CheckpointError(
            f"The checkpoint of step {step} belongs to another run:\n"
            + "\n".join("  " + line for line in lines)
            + "\nUse the values of then, or another save_directory. resume='force' goes on all the same, from there "
            "with the values of now."
        )


def _async_options(before_rename: Callable[[], None]) -> ocp.AsyncOptions:
    if jax.process_count() > 1:  # another one may never come
        return ocp.AsyncOptions(post_finalization_callback=before_rename)
    # Orbax measures its patience by the clock on the wall, which may jump by years when it is set.
    return ocp.AsyncOptions(post_finalization_callback=before_rename, timeout_secs=_FOREVER)


def _unused(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}-{count}") for count in range(1, 1000))
    return next(candidate for candidate in (path, *numbered) if not candidate.exists())


def _composite(items: Mapping[str, Any]) -> ocp.args.Composite:
    return ocp.args.Composite(**items)


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    # One gigabyte is copied to the host at a time, not the whole state beside the state itself. Compression would make
    # floats 7 % smaller and take 5 seconds of a processor for a gigabyte, beside the steps that go on.
    tree = ocp.PyTreeCheckpointHandler(save_concurrent_gb=1, use_compression=False)
    json = ocp.JsonCheckpointHandler()
    for item in ("state", "extras"):
        registry.add(item, ocp.args.PyTreeSave, tree)
        registry.add(item, ocp.args.PyTreeRestore, tree)
    registry.add("meta", ocp.args.JsonSave, json)
    registry.add("meta", ocp.args.JsonRestore, json)
    return registry
