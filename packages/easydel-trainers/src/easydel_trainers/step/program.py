"""The compiled programs of a training around one model: what a step changes, takes and gives back."""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp
import optax
from easydel_models.adapters.lora import combine_params, split_trainable
from easydel_models.generation.weights import forget_copy
from easydel_models.parameters import join_params, split_params, update_params
from jax.sharding import Mesh

from easydel_trainers.config import TrainerConfig
from easydel_trainers.step.device_mesh import init_optimizer, replicated
from easydel_trainers.step.objective import Extras, Objective, Params, ScoredObjective
from easydel_trainers.step.optimizer import make_optimizer, without_frozen
from easydel_trainers.step.step import TrainState, make_eval_step, make_train_step


@final
class Program:
    """A model, and the steps that train and evaluate it. Nothing is compiled before a step is called.

    Args:
        model: on the mesh, with its adapters. It is the program's from here on: `take_back` changes its parameters.
        config: names optimizer, averages, and what is frozen.
        objective: what is minimised.
        schedule: learning rate of each step.
        mesh: the devices that share the work; `None` = one device.
    """

    def __init__(
        self,
        model: Any,
        config: TrainerConfig,
        *,
        objective: Objective | ScoredObjective,
        schedule: optax.Schedule,
        mesh: Mesh | None,
    ):
        forget_copy(model)  # what generating made before; training needs the room
        self.model, self.mesh = model, mesh
        self.frozen: Params = split_trainable(split_params(model)[1])[1]
        """Parameters that steps need and never change, such as the base of adapters."""
        self.extras: Extras = objective.initial_extras() if isinstance(objective, ScoredObjective) else ()
        """What the objective carries from step to step."""
        self.has_trained = False
        """Whether the model's parameters are those of a run."""
        self._optimizer = make_optimizer(config, schedule)
        self.train_step = make_train_step(
            objective,
            self._optimizer,
            schedule,
            trained=lambda grads: without_frozen(grads, config.frozen_parameters),
            frozen=self.frozen,
            dropout_seed=_dropout_seed(model, config),
            mesh=mesh,
        )
        self.eval_step = make_eval_step(objective, frozen=self.frozen, mesh=mesh)

    @property
    def structure(self) -> Any:
        """The model without its parameters."""
        return split_params(self.model)[0]

    @property
    def trained_params(self) -> Params:
        """The parameters that a step changes: all, or those of adapters."""
        return split_trainable(split_params(self.model)[1])[0]

    def initial_state(self) -> TrainState:
        """Returns what steps change, before the first one."""
        params = self.trained_params
        # A copy of the extras: the step gives the state's arrays away, and a second run begins with these again.
        step, extras = replicated((jnp.int32(0), jax.tree.map(jnp.copy, self.extras)), self.mesh)
        return TrainState(params, init_optimizer(self._optimizer, params, self.mesh), step, extras)

    def whole_params(self, params: Params) -> Params:
        """Returns parameters that are trained, together with those that are not."""
        return combine_params(params, self.frozen)

    def model_with(self, params: Params) -> Any:
        """Returns the model with other parameters where it is trained, its own left as they are."""
        return join_params(self.structure, self.whole_params(params))

    def take_back(self, params: Params, extras: Extras) -> None:
        """Gives the model the parameters that a run ended with; its first step donated those it held."""
        self.extras, self.has_trained = extras, True
        update_params(self.model, params)


def _dropout_seed(model: Any, config: TrainerConfig) -> int | None:
    """Returns the seed of what training leaves out of adapters' inputs and adds to embeddings; `None` where it does
    neither.
    """
    drops = model.lora is not None and model.lora.dropout > 0
    return config.seed if drops or config.neftune_alpha is not None else None
