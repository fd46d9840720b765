"""A run's parameters out of its folder, and nothing else.

Taking them needs the model and the config: no row is read, no reward is asked, nothing in the folder is written or
locked. So it works for a run that was killed, one that is going on, and one whose rows are gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from easydel_models.adapters.lora import split_trainable
from easydel_models.parameters import split_params, update_params

from easydel_trainers.checkpoints.checkpointer import CHECKPOINTS_FOLDER, META_FILE
from easydel_trainers.checkpoints.manifest import damage
from easydel_trainers.checkpoints.params_digest import params_digest
from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import CheckpointError
from easydel_trainers.step.averaging import eval_params
from easydel_trainers.step.objective import Params
from easydel_trainers.step.optimizer import make_optimizer

_LOG = logging.getLogger(__name__)
_TRIES = 5  # a run that is going on removes old checkpoints while they are read


def restore_model(model: Any, config: TrainerConfig, folder: str | Path) -> int:
    """Gives a model the parameters of a run's newest whole checkpoint, or of its best one if the config wants that.

    Args:
        model: with adapters where the run trained some; only what the run trained changes.
        config: of the run: which optimizer, and so which average of the parameters is the model.
        folder: the run's `save_directory`.

    Returns:
        The step that the checkpoint was written behind.

    Raises:
        CheckpointError: if there is none, or it is one of another model.
    """
    trained, frozen = split_trainable(split_params(model)[1])
    for last_try in (False,) * (_TRIES - 1) + (True,):
        step = _step_to_restore(Path(folder), config)
        checkpoint = Path(folder) / CHECKPOINTS_FOLDER / str(step)
        try:
            _refuse_other_base(_meta(checkpoint), frozen)
            update_params(model, _params_of(checkpoint.absolute(), trained, config))
        except FileNotFoundError:
            if last_try:
                raise
            continue
        return step
    raise AssertionError("unreachable")


def _step_to_restore(folder: Path, config: TrainerConfig) -> int:
    newest = next(_whole_steps(folder), None)
    if newest is None:
        raise CheckpointError(f"`{folder}` holds no whole checkpoint to restore.")
    best = _meta(folder / CHECKPOINTS_FOLDER / str(newest))["best"]["step"]
    if not config.load_best_model_at_end or best is None or best == newest:
        return newest
    found = damage(folder / CHECKPOINTS_FOLDER / str(best))
    if found is not None:
        raise CheckpointError(
            f"The best checkpoint of `{folder}`, of step {best}, cannot be restored: {found}. "
            f"load_best_model_at_end=False takes the newest one, of step {newest}."
        )
    return best


def _whole_steps(folder: Path) -> Iterator[int]:
    """Yields steps of the whole checkpoints, newest first; those that are damaged are told."""
    checkpoints = folder / CHECKPOINTS_FOLDER
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    for step in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        found = damage(checkpoints / str(step))
        if found is None:
            yield step
        else:
            _LOG.warning("DAMAGED CHECKPOINT: that of step %d in %s is not used, since %s.", step, checkpoints, found)


def _meta(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / META_FILE).read_text(encoding="utf-8"))


def _params_of(checkpoint: Path, trained: Params, config: TrainerConfig) -> Params:
    like: dict[str, Any] = {"params": trained}
    if config.ema_decay is not None or config.optimizer == "schedule_free":
        # The schedule decides nothing about the state's shape.
        like["opt_state"] = jax.eval_shape(make_optimizer(config, lambda step: 0.0).init, trained)
    shapes = jax.tree.map(_abstract, like)
    wanted = ocp.args.PyTreeRestore(shapes, ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            restored = reader.restore(checkpoint / "state", args=wanted)
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"Checkpoint {checkpoint} does not fit this model: {error}. Restore into the model it was written for."
        ) from error
    return eval_params(restored["params"], restored.get("opt_state", ()))


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or here)


def _refuse_other_base(meta: dict[str, Any], frozen: Params) -> None:
    then, now = meta["identity"].get("frozen parameters"), params_digest(frozen)
    if then != now and now is None:
        raise CheckpointError("The checkpoint holds adapters. Give the config the `lora` that the run had.")
    if then != now:
        raise CheckpointError(
            f"The checkpoint holds adapters of another base model (fingerprint of its weights: {then} then, {now} "
            "now). Name the model that the run was started from."
        )
