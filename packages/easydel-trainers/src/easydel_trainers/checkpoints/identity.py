"""What a checkpoint must be made of to continue a run: model, rows, tokenizer, reference and options, by content.

Each is a flat name with a plain value, so that a difference can be told in one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from easydata_sources.identity import UNIDENTIFIED, identity_digest, unidentified
from easydata_tokenize.saved.identity import tokenizer_fingerprint

from easydel_trainers.checkpoints.params_digest import params_digest
from easydel_trainers.config import TrainerConfig, numeric_identity
from easydel_trainers.data.epochs import rows_in_all
from easydel_trainers.errors import CheckpointError
from easydel_trainers.step.schedule import learning_rate_schedule

if TYPE_CHECKING:
    from easydel_trainers.step.program import Program
    from easydel_trainers.training import Training

_COMPARED_FILES = 8  # that are compared one by one; more are compared together

#: How long a run is; what a longer one changes is told apart from being another run.
_LENGTH = ("max_training_steps", "num_train_epochs")


def run_identity(training: Training) -> dict[str, Any]:
    """Returns what must be equal for a checkpoint to continue a run of this training, as flat plain values."""
    source = training.data.required
    shapes = {
        "parameter " + jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(training.program.trained_params)
    }
    options = {name: value for name, value in numeric_identity(training.config).items() if name not in _LENGTH}
    return {
        "trainer": training.name,
        **options,
        "training rows": rows_in_all(source, 1),
        **dict(_flat("training rows", source.identity())),
        **dict(_flat("tokenizer", _tokenizer_identity(training.data.tokenizer))),
        "compute type": str(training.program.model.dtype),
        **shapes,
        **training.source.identity(),
    }


def weights_identity(program: Program) -> dict[str, Any]:
    """Returns fingerprints of the weights that a training begins with. They are to be taken before its first step."""
    trained, frozen = params_digest(program.trained_params), params_digest(program.frozen)
    return {"weights before training": trained, "frozen parameters": frozen}


def unknown_parts(identity: Mapping[str, Any]) -> list[str]:
    """Returns what an identity says it does not know."""
    return [str(value) for name, value in identity.items() if name.endswith(UNIDENTIFIED)]


def refuse_other_length(config: TrainerConfig, *, then: int | None, now: int | None, step: int) -> str | None:
    """Compares the steps that a run was planned for with those it is asked for now.

    Args:
        config: of the run.
        then: steps planned when the checkpoint was written; `None` = unknown.
        now: the same today.
        step: of the checkpoint.

    Returns:
        What to tell if the run goes on to another step than was planned; `None` = to the same one.

    Raises:
        CheckpointError: if it has taken more steps than it is asked for, or the learning rates it was trained with
            belong to a run of another length.
    """
    if then == now:
        return None
    if now is not None and now < step:
        raise CheckpointError(
            f"The checkpoint is of step {step}, and the run is asked for {now} steps. Ask for at least as many, or "
            "choose another save_directory. resume='force' takes the checkpoint as it is."
        )
    if config.scheduler == "constant":
        return f"The run goes on to step {_count(now)}; it was planned to end at step {_count(then)}."
    rates = [f"{_rate(config, total, step):.4g}" for total in (then, now)]
    raise CheckpointError(
        f"The checkpoint of step {step} belongs to a run of {_count(then)} steps, and {_count(now)} are asked for now. "
        f"scheduler='{config.scheduler}' ends with the run, so this changes the learning rate of every step: step "
        f"{step + 1} would have {rates[1]} instead of {rates[0]}, behind steps with the rates of then. Ask for "
        f"{_count(then)} steps, or choose another save_directory for the longer run (one with scheduler='constant' "
        "can be made longer at any time). resume='force' goes on all the same, with the rates of now from here on."
    )


def _rate(config: TrainerConfig, total: int | None, step: int) -> float:
    return np.asarray(learning_rate_schedule(config, total_steps=total)(step)).item()


def _count(steps: int | None) -> str:
    return "an unknown number of" if steps is None else str(steps)


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return {UNIDENTIFIED: f"the vocabulary of a {type(tokenizer).__name__}"}
    return tokenizer_fingerprint(tokenizer)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Returns the plain values within nested ones, by their ways to them."""
    if isinstance(value, Mapping):
        return [entry for key, part in value.items() for entry in _flat(f"{name}, {key}", part)]
    if not isinstance(value, list | tuple) or all(isinstance(part, str | int | float | None) for part in value):
        return [(name, list(value) if isinstance(value, tuple) else value)]
    if len(value) > _COMPARED_FILES:
        unknown = sorted(set(unidentified(value)))
        unidentified_part = [(f"{name}, {UNIDENTIFIED}", "; ".join(unknown))] if unknown else []
        return [(name, f"{len(value)} with the fingerprint {identity_digest(value)}"), *unidentified_part]
    return [entry for number, part in enumerate(value) for entry in _flat(f"{name} {number}", part)]
