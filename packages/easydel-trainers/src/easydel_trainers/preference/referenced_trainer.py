"""Trainers that compare the policy with a reference model: where its log-probabilities come from.

A model given, or a copy of the policy, is held beside the policy and scores every batch. Precomputed, all rows are
scored once before the first step; then no reference parameters are held.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from easydel_models.parameters import split_params

from easydel_trainers.data.groups import Group
from easydel_trainers.device_mesh import put_batch
from easydel_trainers.errors import ConfigError
from easydel_trainers.interruption import StopAtOnce
from easydel_trainers.output import TrainOutput
from easydel_trainers.params_digest import params_digest
from easydel_trainers.preference.config import ReferenceConfig
from easydel_trainers.preference.reference import (
    ReferenceModel,
    held_params,
    load_reference,
    make_reference_step,
)
from easydel_trainers.preference.reference_cache import ReferenceCache, fingerprint
from easydel_trainers.preference.trainer import PreferenceTrainer
from easydel_trainers.step import Batch, Params
from easydel_trainers.training_run import TrainingRun

_LOG = logging.getLogger(__name__)

Config = TypeVar("Config", bound=ReferenceConfig)


class ReferencedTrainer(PreferenceTrainer[Config]):
    """A trainer on preferences with a reference model. Abstract.

    Args:
        model: see `Trainer`.
        arguments: see `Trainer`.
        reference_model: what the policy is compared with: a model, or a folder, Hub id or `.gguf` file. `None` = the
            policy as it is before training, adapters that it came with included. It must know the same tokens.
        options: the others of `Trainer`.
    """

    _reference: ReferenceModel | None = None
    _cache: ReferenceCache | None = None
    _unscored: Any = None
    _reference_digest: str | None = None

    def __init__(self, model: Any, arguments: Config | None = None, *, reference_model: Any = None, **options: Any):
        super().__init__(model, arguments, **options)
        if not self._compares:
            return
        if self.model.lora is not None and self.arguments.sync_ref_model:
            raise ConfigError(
                "sync_ref_model", True, "False for a model with adapters: a reference that follows is a whole model"
            )
        reference = load_reference(reference_model, self.model, self.arguments)
        self._unscored = reference
        structure, params = split_params(reference)
        if reference_model is not None and self.arguments.save_directory is not None:
            self._reference_digest = params_digest(params)
        self._reference_step = make_reference_step(
            structure,
            sequences=self._sequences,
            ld_alpha=self._ld_alpha,
            longest=self.arguments.max_length,
            mesh=self._mesh,
        )
        if self.arguments.precompute_ref_log_probs:
            self._cache = ReferenceCache(self._cache_folder(params))
        else:
            held = held_params(reference, self.model)
            self._reference, self._unscored = ReferenceModel(held, self._reference_step), None

    @property
    def _compares(self) -> bool:
        """Whether the loss needs a reference model at all."""
        return True

    @property
    def _ld_alpha(self) -> float | None:
        """See `sequence_scores`."""
        return None

    @property
    def _groups_depend_on_order(self) -> bool:
        """Whether the sequences of a row depend on the rows it shares a step with."""
        return False

    # What a user calls.

    def train(self, resume_from_checkpoint: Literal[True] | None = None) -> TrainOutput:
        """See `Trainer.train`. With `precompute_ref_log_probs` all rows are scored first."""
        with StopAtOnce(enabled=jax.process_count() == 1):
            self._score_beforehand()
        return super().train(resume_from_checkpoint)

    def evaluate(self, dataset: Any = None) -> dict[str, float]:
        """See `Trainer.evaluate`."""
        if dataset is None:
            self._score_beforehand()
        return super().evaluate(dataset)

    # Hooks of a run.

    def _annotate(self, batch: Batch, run: TrainingRun | None) -> Batch:
        return batch if self._reference is None else self._reference.annotate(batch)

    def _after_step(self, run: TrainingRun) -> None:
        config = self.arguments
        if self._reference is not None and config.sync_ref_model and run.step % config.ref_model_sync_steps == 0:
            self._reference.follow(run.params, alpha=config.ref_model_mixup_alpha)

    def _extra_arrays(self) -> Mapping[str, np.ndarray]:
        follows = self._reference is not None and self.arguments.sync_ref_model
        return self._reference.arrays() if self._reference is not None and follows else {}

    def _restore_extras(self, meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        if self._reference is not None and self.arguments.sync_ref_model:
            self._reference.restore(arrays)

    def _identity(self) -> dict[str, Any]:
        return {"reference model": self._reference_digest or "the policy before training"} if self._compares else {}

    def _complete(self, groups: Sequence[Group]) -> Sequence[Group]:
        return groups if self._cache is None else self._cache.annotated(groups)

    # Scoring all rows before the first step.

    def _scored_groups(self, rows: Sequence[Any]) -> list[Group]:
        """Every group of a step that needs the reference's log-probabilities."""
        return self._groups(rows)

    def _score_beforehand(self) -> None:
        if self._cache is None or self._unscored is None:
            return
        params, before = split_params(self._unscored)[1], len(self._cache)
        for rows in self._rows_to_score():
            missing = [group for group in self._scored_groups(rows) if self._cache.lacks(group)]
            if missing:
                self._cache.add(missing, self._logps(params, missing))
        _LOG.info("Reference scores: %d sequences scored, %d known before.", len(self._cache) - before, before)
        self._unscored = None

    def _rows_to_score(self) -> Iterator[list[Any]]:
        """Rows of all steps of the run, as far as they differ, and of all evaluations."""
        config, steps = self.arguments, self._total_steps
        if self._rows.train is not None:
            rows = self._rows.in_order(self._make_transform())
            for _ in itertools.count() if steps is None else range(steps):
                taken = list(itertools.islice(rows, config.total_batch_size))
                if not taken or (rows.epoch > 0 and not self._groups_depend_on_order):
                    yield taken
                    break
                yield taken
        for source in self._rows.held_out.values():
            held_out = self._rows.once(source, self._make_transform())
            while taken := list(itertools.islice(held_out, config.eval_batch_size)):
                yield taken

    def _logps(self, params: Params, groups: Sequence[Group]) -> np.ndarray:
        """Log-probabilities `[groups, sequences]`."""
        numbered = [replace(group, values={"number": number}) for number, group in enumerate(groups)]
        layout = replace(self._group_layout(rows=len(groups), micro_batches=1), complete=None)
        arrays = layout.arrange_groups(numbered)
        scored = jax.device_get(self._reference_step(params, put_batch(arrays, self._mesh)))[0]
        order = arrays["rows"]["number"][0].astype(int)
        logps = np.empty((len(groups), self._sequences), np.float32)
        logps[order] = scored.T
        return logps

    def _cache_folder(self, params: Params) -> Path | None:
        config = self.arguments
        folder = config.ref_log_probs_directory
        if folder is None and config.save_directory is not None:
            folder = Path(config.save_directory) / "reference"
        how = (str(self.model.dtype), self._ld_alpha, repr(self._unscored.lora))
        if folder is None or jax.process_count() > 1:
            # What one process finds in a folder another may not see yet, and all must score the same rows together.
            return None
        return Path(folder) / fingerprint(params, *how)
