"""Steps on the rows of the data themselves, read ahead of the device: those of every algorithm that samples nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, final

import jax
import numpy as np
from easydata_sources import ShardedDataSource

from easydel_trainers.data.row_exchange import open_exchange
from easydel_trainers.data.steps import PreparedStep, prepared_steps
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.reference.reference import Reference
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.run.view import RunView
from easydel_trainers.step.device_mesh import put_batch
from easydel_trainers.step.metrics import MetricWindow
from easydel_trainers.step.objective import Batch, Extras
from easydel_trainers.step.program import Program
from easydel_trainers.step_source import EvalState, StepSource, StepStart


@final
class RowSteps(StepSource):
    """The next rows of the data, `total_batch_size` at a time.

    Args:
        data: the rows.
        program: whose steps they are for.
        reference: what the model is compared with; `None` = nothing.
        fit: finds out of the rows what their batches need; called before every run and evaluation.
        callbacks: told of the run.
    """

    def __init__(
        self,
        data: TrainingData,
        program: Program,
        *,
        reference: Reference | None = None,
        fit: Callable[[], None] | None = None,
        callbacks: Sequence[Callback] = (),
    ):
        self._data, self._program, self._fit = data, program, fit
        self.reference = reference
        """What the model is compared with; `None` = nothing."""
        self._callbacks = (*callbacks, *(() if reference is None else reference.callbacks))

    @property
    def callbacks(self) -> Sequence[Callback]:
        """See `StepSource`."""
        return self._callbacks

    def prepare(self, *, own_rows: bool) -> None:
        """Fit, and let the reference score all rows where it is to do so beforehand."""
        if self._fit is not None:
            self._fit()
        if self.reference is not None and own_rows:
            self.reference.score_beforehand(self._data)

    def steps(self, run: RunView, start: StepStart) -> Generator[PreparedStep, None, None]:
        """See `StepSource`. The live parameters are not looked at."""
        del run
        data = self._data
        return prepared_steps(
            data.in_order(data.transform, state=start.data_state, bad_rows=data.bad, exchange=start.exchange),
            data.arrange,
            rows_per_step=data.config.total_batch_size,
            mesh=self._program.mesh,
            batches_done=start.batch,
            skip=data.config.skip_batches,
        )

    def annotate(self, batch: Batch) -> Batch:
        """Returns the batch with the reference's log-probabilities, if there is one."""
        return batch if self.reference is None else self.reference.annotate(batch)

    def measure(self, source: ShardedDataSource, state: EvalState) -> dict[str, float]:
        """Returns metrics of rows that are judged as they are trained, weighted by their tokens."""
        data, size = self._data, self._data.config.eval_batch_size
        transform = data.eval_transform()
        rows = data.once(source, transform, exchange=open_exchange())
        arrange, window = data.layout(rows=size).arrange, MetricWindow()
        for batch in prepared_steps(rows, arrange, rows_per_step=size, mesh=self._program.mesh):
            measured = self._program.eval_step(state.params, self.annotate(batch.arrays), state.extras)
            window.add(jax.device_get(measured))
        transform.report.check(final=True)
        return window.means()

    def metric_names(self, extras: Extras) -> Mapping[str, set[str]]:
        """Found by tracing the evaluation of the first rows."""
        data, program, size = self._data, self._program, self._data.config.eval_batch_size
        names: dict[str, set[str]] = {}
        for name, source in data.held_out.items():
            rows = list(itertools.islice(data.once(source, data.eval_transform()), size))
            arrays = put_batch(data.layout(rows=size).arrange(rows), program.mesh)
            names[name] = set(program.eval_step.shapes(program.trained_params, self.annotate(arrays), extras))
        return names

    def identity(self) -> dict[str, Any]:
        """That of the reference."""
        return {} if self.reference is None else self.reference.identity()

    def meta(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Returns those of a reference that follows the model."""
        return {} if self.reference is None else self.reference.arrays()

    def restore(self, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """See `StepSource`."""
        if self.reference is not None:
            self.reference.restore(arrays)
