"""The model that a policy is compared with: where its log-probabilities come from.

A model given, or a copy of the policy, is held beside the policy and scores every batch. Precomputed, all rows are
scored once before the first step; then no reference parameters are held.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import jax
import numpy as np
from easydel_models.parameters import split_params

from easydel_trainers.checkpoints.params_digest import params_digest
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.errors import ConfigError
from easydel_trainers.preference.config import ReferenceConfig
from easydel_trainers.reference.cache import ReferenceCache, fingerprint
from easydel_trainers.reference.model import Following, ReferenceModel, held_params, load_reference, make_reference_step
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.device_mesh import put_batch, row_parts
from easydel_trainers.step.objective import Batch, Params
from easydel_trainers.step.program import Program

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRows:
    """Which sequences of the rows the reference scores.

    Attributes:
        sequences: of a step row.
        step_rows: from a step's rows to all that need scores.
        ordered: whether these depend on the rows that a row shares a step with.
        ld_alpha: see `sequence_scores`.
        layout: how so many step rows, on so many devices, are arranged to be scored beforehand.
    """

    sequences: int
    step_rows: Callable[[Sequence[Any]], Sequence[StepRow]]
    layout: Callable[[int, int], SequenceLayout]
    ordered: bool = False
    ld_alpha: float | None = None


@final
class Reference:
    """A reference model, from the moment that it is named.

    Args:
        config: how it is asked.
        given: a model, or a folder, Hub id or `.gguf` file. `None` = the policy as it is before training, adapters
            that it came with included. It must know the same tokens.
        scored: which sequences it scores.
    """

    def __init__(self, config: ReferenceConfig, given: Any, scored: ScoredRows):
        self._config, self._original, self._scored = config, given, scored
        self._held: ReferenceModel | None = None
        self._cache: ReferenceCache | None = None
        self._unscored: _Unscored | None = None
        self._digest: str | None = None

    @property
    def held(self) -> ReferenceModel | None:
        """The model that scores every batch; `None` before `load`, and where all rows are scored beforehand."""
        return self._held

    @property
    def callbacks(self) -> Sequence[Callback]:
        """What lets a held model follow the policy, where it is to."""
        return (Following(self._held, self._config),) if self._held is not None and self._config.sync_ref_model else ()

    def load(self, program: Program) -> None:
        """Gets it into memory, ready to score.

        Raises:
            ConfigError: if it does not go together with the policy.
        """
        config, scored, policy = self._config, self._scored, program.model
        if policy.lora is not None and config.sync_ref_model:
            raise ConfigError(
                "sync_ref_model", True, "False for a model with adapters: a reference that follows is a whole model"
            )
        model = load_reference(self._original, policy, config)
        structure, params = split_params(model)
        if self._original is not None and config.save_directory is not None:
            self._digest = params_digest(params)
        step = make_reference_step(
            structure,
            config,
            sequences=scored.sequences,
            ld_alpha=scored.ld_alpha,
            mesh=program.mesh,
        )
        if config.precompute_ref_log_probs:
            self._cache = ReferenceCache(self._cache_folder(model, params, str(policy.dtype)))
            self._unscored = _Unscored(model, step, program)
        else:
            self._held = ReferenceModel(held_params(model, policy), step)

    def annotate(self, batch: Batch) -> Batch:
        """Returns the batch with a held model's log-probabilities, that of the partners in it too."""
        if self._held is None:
            return batch
        batch = self._held.annotate(batch)
        return {**batch, "partners": self._held.annotate(batch["partners"])} if "partners" in batch else batch

    def complete(self, step_rows: Sequence[StepRow]) -> Sequence[StepRow]:
        """Returns step rows with the log-probabilities that were computed beforehand."""
        return step_rows if self._cache is None else self._cache.annotated(step_rows)

    def score_beforehand(self, data: TrainingData) -> None:
        """Scores every row of the run and of its evaluations, if that is asked for and was not done."""
        if self._cache is None or self._unscored is None:
            return
        before = len(self._cache)
        for rows in self._rows_to_score(data):
            missing = [step_row for step_row in self._scored.step_rows(rows) if self._cache.lacks(step_row)]
            if missing:
                self._cache.add(missing, self._unscored.logps(missing, self._scored))
        _LOG.info("Reference scores: %d sequences scored, %d known before.", len(self._cache) - before, before)
        self._unscored = None

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Returns the parameters of one that follows the policy, for a checkpoint."""
        return self._held.arrays() if self._held is not None and self._config.sync_ref_model else {}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes back what `arrays` gave."""
        if self._held is not None and self._config.sync_ref_model:
            self._held.restore(arrays)

    def identity(self) -> dict[str, Any]:
        """Returns which model it is."""
        return {"reference model": self._digest or "the policy before training"}

    def _rows_to_score(self, data: TrainingData) -> Iterator[list[Any]]:
        """Yields rows of all steps of the run, as far as they differ, and of all evaluations."""
        config, steps = self._config, data.total_steps
        if data.train is not None:
            rows = data.in_order(data.training_transform())
            for _ in itertools.count() if steps is None else range(steps):
                batch = list(itertools.islice(rows, config.total_batch_size))
                if not batch or (rows.epoch > 0 and not self._scored.ordered):
                    yield batch
                    break
                yield batch
        for source in data.held_out.values():
            held_out = data.once(source, data.eval_transform())
            while batch := list(itertools.islice(held_out, config.eval_batch_size)):
                yield batch

    def _cache_folder(self, model: Any, params: Params, dtype: str) -> Path | None:
        config = self._config
        folder = config.ref_log_probs_directory
        if folder is None and config.save_directory is not None:
            folder = Path(config.save_directory) / "reference"
        how = (dtype, self._scored.ld_alpha, repr(model.lora))
        if folder is None or jax.process_count() > 1:
            # What one process finds in a folder another may not see yet, and all must score the same rows together.
            return None
        return Path(folder) / fingerprint(params, *how)


@dataclass(frozen=True, slots=True)
class _Unscored:
    """A model that has rows to score yet, and is not needed behind that."""

    model: Any
    step: Compiled
    program: Program

    def logps(self, step_rows: Sequence[StepRow], scored: ScoredRows) -> np.ndarray:
        """Returns log-probabilities `[rows, sequences]`."""
        numbered = [replace(step_row, values={"number": number}) for number, step_row in enumerate(step_rows)]
        arrays = scored.layout(len(step_rows), row_parts(self.program.mesh)).arrange_step_rows(numbered)
        params = split_params(self.model)[1]
        found = jax.device_get(self.step(params, put_batch(arrays, self.program.mesh)))[0]
        order = arrays["rows"]["number"][0].astype(int)
        logps = np.empty((len(step_rows), scored.sequences), np.float32)
        logps[order] = found.T
        return logps
