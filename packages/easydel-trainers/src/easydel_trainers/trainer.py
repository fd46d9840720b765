"""What all trainers share: from model, config and rows to a trained model.

`Trainer` is abstract. An algorithm's trainer says three things: how rows become trainable (`_make_transform`),
what is minimised (`_make_objective`), and how a batch is laid out (`_layout`). It may also add to how a run goes:
where steps come from, what a batch is given before its step, what else a checkpoint holds. One call of `train()` is a
`TrainingRun`.
"""

from __future__ import annotations

import itertools
import logging
import math
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from easydata_mix import MixedShardedSource
from easydata_sources import CountingTransform, DataError, DataReport, ShardedDataSource
from easydata_tokenize import load_tokenizer
from easydel_models.adapters.lora import combine_params, split_trainable
from easydel_models.adapters.peft_files import save_adapter
from easydel_models.parameters import join_params, split_params, update_params

from easydel_trainers.adapters import adapted, dropout_seed, prepared
from easydel_trainers.callbacks import Callback, EarlyStopping, metric_of
from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.epochs import rows_in_all
from easydel_trainers.data.layout import Arrays, Layout, Row
from easydel_trainers.data.micro_batches import arrange_by_budget
from easydel_trainers.data.steps import PreparedStep, prepared_steps
from easydel_trainers.device_mesh import (
    check_batches,
    init_optimizer,
    on_mesh,
    put_batch,
    replicated,
    row_parts,
    training_mesh,
)
from easydel_trainers.errors import ConfigError
from easydel_trainers.evaluation import evaluate, measure, metric_name
from easydel_trainers.explained import Explains, explained
from easydel_trainers.export import save_with_tokenizer
from easydel_trainers.given_rows import GivenRows, held_out_sources
from easydel_trainers.loop import Record
from easydel_trainers.model_fit import check_positions, check_vocabulary, take_special_tokens, warn_of_unknown_stop
from easydel_trainers.optimizer import make_optimizer, without_frozen
from easydel_trainers.output import TrainOutput
from easydel_trainers.processes import losses_named
from easydel_trainers.restoring import restore_model
from easydel_trainers.run_identity import weights_identity
from easydel_trainers.schedule import learning_rate_schedule
from easydel_trainers.step import (
    Batch,
    Objective,
    Params,
    ScoredObjective,
    TrainState,
    make_eval_step,
    make_train_step,
)
from easydel_trainers.tokenizer_of_rows import refuse_other_tokenizer
from easydel_trainers.training_run import TrainingRun
from easydel_trainers.trl_arguments import AcceptsTRLArguments, no_such_member, refuse_other_resuming

_LOG = logging.getLogger(__name__)

_SHOWN_TOKENS = 24  # of each row in messages
_NOT_TOKENS = ("segment_ids", "position_ids")  # of a packed row

Config = TypeVar("Config", bound=TrainerConfig)


class Trainer(Generic[Config], metaclass=AcceptsTRLArguments):
    """Trains a model on rows.

    Args:
        model: a model object, or what `from_pretrained` takes: a folder, a Hub id or a `.gguf` file. The trainer
            owns it from here on: its parameters change as training goes.
        arguments: the config; `None` = all defaults.
        processing_class: the tokenizer; `None` = the one beside the model, if the model was named by a path.
        train_dataset: HF `Dataset` or `IterableDataset`, any `ShardedDataSource`, a list of dicts, a data frame, or a
            path or glob; raw or tokenized rows.
        eval_dataset: the same, held out; or a dict of several by name, whose metrics become `eval_<name>_…`.
        callbacks: told of every step, log record and evaluation; they may stop the run.

    Raises:
        ConfigError: if model, config and data cannot go together.
        DataError: if the first rows cannot be read or recognised; nothing has been compiled by then.
    """

    def __init__(
        self,
        model: Any,
        arguments: Config | None = None,
        *,
        processing_class: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        callbacks: Sequence[Callback] = (),
    ):
        self._open_rows(arguments, _tokenizer(processing_class, model), train_dataset, eval_dataset)
        self._mesh = training_mesh(self.arguments)
        check_batches(self.arguments, self._mesh)
        self._refuse_for_several_processes()
        self._first_rows = self._try_first_rows()
        self._check_first_rows()
        self._total_steps = self._count_steps(exactly=self.arguments.scheduler != "constant")
        self.callbacks = tuple(callbacks)
        self._model_name = str(model) if isinstance(model, str | PathLike) else None
        self._schedule = learning_rate_schedule(self.arguments, total_steps=self._total_steps)
        self.model = on_mesh(prepared(self._load_model(model), self.arguments), self._mesh)
        self._fit_model()
        structure, params = split_params(self.model)
        self._frozen = split_trainable(params)[1]
        self.weights_before = {} if self.arguments.save_directory is None else weights_identity(self)
        """Fingerprints of the weights that a checkpoint must have begun with; none where there is no folder."""
        self.has_trained = False
        """Whether `train()` has been called."""
        self._optimizer = make_optimizer(self.arguments, self._schedule)
        objective = self._make_objective(structure)
        self._extras = objective.initial_extras() if isinstance(objective, ScoredObjective) else ()
        self._train_step = make_train_step(
            objective,
            self._optimizer,
            self._schedule,
            trained=lambda grads: without_frozen(grads, self.arguments.frozen_parameters),
            frozen=self._frozen,
            dropout_seed=dropout_seed(self.model, self.arguments),
            mesh=self._mesh,
        )
        self._eval_step = make_eval_step(objective, frozen=self._frozen, mesh=self._mesh)

    @classmethod
    def without_model(
        cls, arguments: Config | None = None, *, processing_class: Any, train_dataset: Any, eval_dataset: Any = None
    ) -> Self:
        """A trainer that has no model: for looking at the very rows and batches that training would use.

        It can `explain` rows, give batches and count steps; what needs a model raises `ConfigError`. No row is read
        yet, so that bad ones can be looked at, too.

        Args:
            arguments: see `Trainer`.
            processing_class: the tokenizer, or what `load_tokenizer` takes.
            train_dataset: see `Trainer`.
            eval_dataset: see `Trainer`.

        Raises:
            ConfigError: if config and data cannot go together.
            DataError: if there are no rows.
        """
        trainer = cls.__new__(cls)
        tokenizer = load_tokenizer(processing_class) if isinstance(processing_class, str) else processing_class
        trainer._mesh = None
        trainer._open_rows(arguments, tokenizer, train_dataset, eval_dataset)
        trainer.callbacks, trainer._model_name, trainer.model = (), None, None
        return trainer

    @classmethod
    def without_rows(cls, model: Any, arguments: Config, *, processing_class: Any = None) -> Self:
        """A trainer that has a model and no rows, to `restore` it from a run's folder and save it.

        It asks for no rows, no rewards and no reference model, and for no more devices than there are.

        Args:
            model: see `Trainer`; the one that the run was started from.
            arguments: those of the run.
            processing_class: the tokenizer, or what `load_tokenizer` takes; `None` = the one beside the model.

        Raises:
            ConfigError: if model and config cannot go together.
        """
        trainer = cls.__new__(cls)
        tokenizer = load_tokenizer(processing_class) if isinstance(processing_class, str) else processing_class
        trainer.arguments = replace(arguments, dp=1, fsdp=-1, ep=1, tp=1, sp=1)
        trainer.processing_class = _tokenizer(tokenizer, model)
        trainer._mesh = training_mesh(trainer.arguments)
        trainer.callbacks, trainer._model_name = (), str(model) if isinstance(model, str | PathLike) else None
        loaded = adapted(trainer._load_model(model), trainer.arguments)
        trainer.model = on_mesh(loaded, trainer._mesh)
        take_special_tokens(trainer.model, trainer.processing_class)
        return trainer

    def _open_rows(self, arguments: Config | None, tokenizer: Any, train_dataset: Any, eval_dataset: Any) -> None:
        self.arguments = self._checked_config(arguments)
        self.processing_class = tokenizer
        self._rows = GivenRows(self.arguments, train_dataset, eval_dataset)
        refuse_other_tokenizer(tokenizer, self._rows.by_name, allowed=self.arguments.allow_other_tokenizer)
        self._transform = self._make_training_transform()
        if isinstance(self._rows.train, MixedShardedSource):
            self._rows.train.bind(rows_per_step=self._source_rows_per_step(self._rows.train))
        self._refuse_missing_parts()
        self._total_steps = self._count_steps()

    if not TYPE_CHECKING:  # which would take every name for one of these

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(no_such_member(type(self), name))

    def _try_first_rows(self) -> list[Row]:
        """The first training rows as they are trained on; raises where rows, or held-out ones, cannot be."""
        for source in self._rows.held_out.values():
            self._rows.try_first(source, self._make_eval_transform())
        return (
            [] if self._rows.train is None else self._rows.try_first(self._rows.train, self._make_training_transform())
        )

    def _check_first_rows(self) -> None:
        """What an algorithm wants to know of the first rows, before the model is loaded."""

    @property
    def _longest_row(self) -> int | None:
        """Tokens of the longest sequence that rows are cut to; `None` = they are not."""
        return self.arguments.max_length

    def _fit_model(self) -> None:
        """Hold model, tokenizer, config and the first rows against each other."""
        model, tokenizer, config = self.model, self.processing_class, self.arguments
        check_vocabulary(model, tokenizer, padding_value=getattr(config, "padding_value", None))
        take_special_tokens(model, tokenizer)
        warn_of_unknown_stop(model, tokenizer)
        check_positions(model, tokenizer, config, longest=self._longest_row)
        self._rows.vocab_size = model.config.vocab_size
        self._try_first_rows()

    # What an algorithm decides.

    @abstractmethod
    def _default_config(self) -> Config:
        """The config of a trainer that was given none."""

    @abstractmethod
    def _make_transform(self) -> CountingTransform:
        """What turns raw rows into trainable ones; it has a `report`."""

    @abstractmethod
    def _load_model(self, model: Any) -> Any:
        """The model of this algorithm's kind, in the config's types."""

    @abstractmethod
    def _make_objective(self, structure: Any) -> Objective | ScoredObjective:
        """What is minimised, for a model of this structure."""

    @abstractmethod
    def _layout(self, *, rows: int, micro_batches: int) -> Layout:
        """How `rows` rows are arranged into `micro_batches`."""

    # What an algorithm decides if its rows are not trained one by one.

    def _make_training_transform(self) -> CountingTransform:
        """What turns raw rows into those that steps count; may pack several into one."""
        return self._make_transform()

    def _make_eval_transform(self) -> CountingTransform:
        """The same for held-out rows."""
        return self._make_transform()

    def _rows_of_a_run(self, *, exactly: bool) -> int | None:
        """Rows that `num_train_epochs` epochs train on; `None` where they cannot be counted.

        Args:
            exactly: whether rows that are dropped, or become several, are found out by reading the data; else these are
                the rows of the data.
        """
        rows = rows_in_all(self._rows.required, self.arguments.num_train_epochs)
        if not exactly or not rows:
            return rows
        _LOG.info(
            "Reading the data once to count the rows that are trained on; max_training_steps makes that needless."
        )
        return self._rows.count(self._make_training_transform())

    @property
    def _rows_per_batch(self) -> int:
        """Rows that a step takes from the data."""
        return self.arguments.total_batch_size

    def _source_rows_per_step(self, source: MixedShardedSource) -> int:
        """Rows of a mixture that one step reads, by which a schedule that counts steps is timed."""
        return self._rows_per_batch

    # What a user calls.

    @property
    def data_report(self) -> DataReport:
        """Counts of rows read, cut, dropped or odd so far, by reason."""
        report = self._transform.report
        return report if self._rows.bad is None else report.joined(self._rows.bad.report)

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of a whole run; `None` where the rows cannot be counted."""
        return self._total_steps

    def _refuse_unknown_metrics(self) -> None:
        """Say at the beginning, not at the first evaluation, that there is no metric of some name."""
        wanted = {self.arguments.metric_for_best_model}
        wanted |= {callback.metric for callback in self.callbacks if isinstance(callback, EarlyStopping)}
        known = self._metric_names() if wanted - {None} and self._rows.held_out else None
        for name in wanted - {None}:
            if known is not None:
                metric_of(dict.fromkeys(known, 0.0), str(name))

    def _metric_names(self) -> set[str] | None:
        """Names in the record of an evaluation, found by tracing its step; `None` where nobody can know them."""
        names: set[str] = set()
        for name, source in self._rows.held_out.items():
            config = self.arguments
            rows = list(itertools.islice(self._rows.once(source, self._make_eval_transform()), config.eval_batch_size))
            arrays = put_batch(self._layout(rows=config.eval_batch_size, micro_batches=1).arrange(rows), self._mesh)
            found = self._eval_step.shapes(self._trained_params(), self._annotate(arrays, None), self._extras)
            names |= {metric_name(name, metric) for metric in found}
        return names

    def train(self, resume_from_checkpoint: Literal[True] | None = None) -> TrainOutput:
        """Train to the end, from the newest checkpoint if there is one and `resume` allows it.

        Args:
            resume_from_checkpoint: TRL's way to ask for what is done anyway.

        Raises:
            ConfigError: if `resume_from_checkpoint` asks for anything else.
            CheckpointError: if the checkpoint found belongs to another run.
            DivergedError: when the loss is no longer finite.
            DataQualityError: when too many rows are cut, dropped or odd.
        """
        refuse_other_resuming(resume_from_checkpoint)
        self._refuse_unknown_metrics()
        with ExitStack() as resources:
            run = TrainingRun(self, resources)
            try:
                with losses_named():
                    run.take_steps()
            finally:
                # The step donated the arrays the model held; give it the trained ones, whatever happened.
                self._extras = run.progress.state.extras
                self.has_trained = True
                update_params(self.model, run.release())
            run.require_best()
        return run.output()

    def restore(self) -> int:
        """Give the model the parameters of the newest whole checkpoint of `save_directory`, without training.

        It is the best one's where `load_best_model_at_end` asks for it. Nothing in the folder changes, so a run may be
        going on in it.

        Returns:
            The step that it was written behind.

        Raises:
            ConfigError: if there is no `save_directory`.
            CheckpointError: if there is none, or it is one of another model.
        """
        if self.arguments.save_directory is None:
            raise ConfigError("save_directory", None, "the folder of a run to restore from")
        return restore_model(self.model, self.arguments, self.arguments.save_directory)

    def evaluate(self, dataset: Any = None) -> Record:
        """Metrics on held-out rows, weighted by their tokens, with the prefix `eval_`.

        Args:
            dataset: rows as for `eval_dataset`; `None` = those of the trainer.
        """
        sources = self._rows.held_out if dataset is None else held_out_sources(dataset)
        if not sources:
            raise ConfigError("eval_dataset", None, "held-out rows, here or when the trainer is made")
        return evaluate(self, self._trained_params(), sources, run=None)

    def explain(self, row: Mapping[str, Any]) -> str:
        """One raw row as training sees it: a table of its tokens with label, mask and segment. Counts nothing."""
        assert isinstance(self._transform, Explains)
        return explained(self._transform.explain(row))

    def describe_batch(self, position: Mapping[str, Any] | None) -> list[str]:
        """The rows of the batch that begins at a data position: where each comes from, and how its text begins.

        Args:
            position: as a divergence or a loss spike names it, or a checkpoint's `data`; `None` = the beginning.
        """
        rows = self._rows.in_order(self._make_training_transform(), state=None if position is None else dict(position))
        lines = []
        for row in itertools.islice(rows, self._rows_per_batch):
            file, number = rows.origin()
            documents = int(np.max(row.get("segment_ids", 1)))
            if documents > 1:
                file = f"{documents} rows packed, from the window of rows that begins at {file}"
            ids = np.concatenate([row[name] for name in row if name.endswith("_ids") and name not in _NOT_TOKENS])
            text = self.processing_class.decode(ids[:_SHOWN_TOKENS])
            lines.append(f"{file} row {number}, {len(ids)} tokens: {text!r}")
        return lines

    def save_pretrained(self, path: str | PathLike[str]) -> None:
        """Write model and tokenizer as a Hugging Face folder; adapters are merged into the kernels.

        With several processes all must call it; process 0 writes.
        """
        save_with_tokenizer(path, self.model, self.processing_class)

    def save_model(self, output_dir: str | PathLike[str]) -> None:
        """`save_pretrained` by the name it has in TRL."""
        self.save_pretrained(output_dir)

    def save_adapter(self, path: str | PathLike[str]) -> None:
        """Write the adapters alone, in the files of `peft`.

        Raises:
            LoraError: if the model has none.
        """
        save_adapter(path, self.model, base_model=self._model_name)

    def _training_batch_iterator(self) -> Iterator[dict[str, np.ndarray]]:
        """Whole batches of the training order as padded arrays, from the start; training does not advance.

        Each is `input_ids`, `attention_mask` and `labels`, int32 `[total_batch_size, length]`.
        """
        config = self.arguments
        rows = self._rows.in_order(self._make_training_transform())
        while batch := list(itertools.islice(rows, config.total_batch_size)):
            layout = self._layout(rows=config.total_batch_size, micro_batches=1)
            yield layout.padded(batch)

    # What an algorithm may add to a run. The defaults are those of one that needs nothing special.

    _reads_ahead: ClassVar[bool] = True
    """Whether a thread may prepare steps ahead of the one being taken. Not where a step needs the live parameters."""

    def _initial_state(self, params: Params) -> TrainState:
        """What the step changes, before the first one."""
        # A copy of the extras: the step gives the state's arrays away, and a second run begins with these again.
        step, extras = replicated((jnp.int32(0), jax.tree.map(jnp.copy, self._extras)), self._mesh)
        return TrainState(params, init_optimizer(self._optimizer, params, self._mesh), step, extras)

    def _prepared_steps(self, run: TrainingRun) -> Generator[PreparedStep, None, None]:
        """The run's steps from its data position on: `run.progress.data_state`, `None` = from the start.

        Each names the position behind itself, from which it must be possible to go on.
        """
        return prepared_steps(
            self._rows.in_order(
                self._transform,
                state=run.progress.data_state,
                bad_rows=self._rows.bad,
                exchange=run.row_exchange,
            ),
            self._arrange,
            rows_per_step=self.arguments.total_batch_size,
            mesh=self._mesh,
            batches_done=run.progress.batch,
            skip=self.arguments.skip_batches,
        )

    def _annotate(self, batch: Batch, run: TrainingRun | None) -> Batch:
        """A step's arrays with what must be computed from them beforehand, such as reference log-probabilities.

        Also called for every batch of an evaluation; `run` is `None` when that is outside a run.
        """
        return batch

    def _after_step(self, run: TrainingRun) -> None:
        """Called behind every step, before anything is evaluated or saved; `run.params` are the new parameters."""

    def _after_run(self, run: TrainingRun) -> None:
        """Called behind the last step of a run that was not interrupted, when all its metrics are known."""

    def _extra_meta(self) -> dict[str, Any]:
        """What the algorithm needs to go on from here beside `TrainState` and the data position: plain JSON values."""
        return {}

    def _extra_arrays(self) -> Mapping[str, np.ndarray]:
        """The same, as arrays on the host, of any shapes. Arrays on the device belong into `TrainState`."""
        return {}

    def _restore_extras(self, meta: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `_extra_meta` and `_extra_arrays` gave."""

    def _identity(self) -> dict[str, Any]:
        """What else must be equal for a checkpoint to continue a run, such as a reference model: plain values."""
        return {}

    def _measure(self, params: Params, source: ShardedDataSource, run: TrainingRun | None) -> Record:
        """Metrics of one held-out source; `run` is `None` outside of one."""
        return measure(self, params, source, run)

    def _evaluate_during(self, run: TrainingRun) -> Record:
        """The evaluation that falls due during a run."""
        return evaluate(self, run.judged_params, self._rows.held_out, run)

    def _model_with(self, params: Params) -> Any:
        """The model with other parameters where it is trained, its own left as they are."""
        return join_params(split_params(self.model)[0], combine_params(params, self._frozen))

    def _trained_params(self) -> Params:
        """The parameters that a step changes: all, or those of adapters."""
        if self.model is None:
            raise ConfigError("model", None, "a model to train; this trainer was made to look at rows")
        return split_trainable(split_params(self.model)[1])[0]

    def _checked_config(self, arguments: Config | None) -> Config:
        default = self._default_config()
        if arguments is not None and not isinstance(arguments, type(default)):
            found, expected = type(arguments), type(default).__name__
            raise ConfigError(
                "arguments",
                f"{found.__module__.partition('.')[0]}.{found.__name__}",
                f"a {expected}: settings of other configs keep their names in it where they mean the same",
            )
        return default if arguments is None else arguments

    # Rows.

    @property
    def _row_parts(self) -> int:
        """Devices that share the rows of a micro-batch, for layouts."""
        return row_parts(self._mesh)

    def _arrange(self, rows: Sequence[Row]) -> Arrays:
        """One step's rows as arrays `[micro-batches, lines, length]`."""
        config = self.arguments
        if config.max_tokens_per_micro_batch is not None:
            return arrange_by_budget(
                rows,
                lambda lines, micro_batches: self._layout(rows=lines, micro_batches=micro_batches),
                rows_per_step=config.total_batch_size,
                budget=config.max_tokens_per_micro_batch,
            )
        micro_batches = config.gradient_accumulation_steps
        return self._layout(rows=config.total_batch_size // micro_batches, micro_batches=micro_batches).arrange(rows)

    def _count_up_to(self, data_state: dict[str, Any]) -> None:
        """Make the data report that of the rows before a data position."""
        self._rows.in_order(self._transform, bad_rows=self._rows.bad).count_up_to(data_state)

    # Checks at the door.

    def _refuse_missing_parts(self) -> None:
        config = self.arguments
        if config.evaluation_steps is not None and not self._rows.held_out:
            raise ConfigError("evaluation_steps", config.evaluation_steps, "None, as there is no eval_dataset")

    def _refuse_for_several_processes(self) -> None:
        """What a run of several processes does not do yet."""
        config = self.arguments
        if jax.process_count() > 1 and config.preview_prompts:
            raise ConfigError("preview_prompts", config.preview_prompts, "none with several processes")
        if jax.process_count() > 1 and not self._reads_ahead:
            raise ConfigError("trainer", type(self).__name__, "one that generates nothing, with several processes")
        if jax.process_count() > 1 and config.bad_rows != "raise":
            raise ConfigError("bad_rows", config.bad_rows, "'raise' with several processes")

    def _count_steps(self, *, exactly: bool = False) -> int | None:
        config = self.arguments
        if config.max_training_steps is not None or self._rows.train is None:
            return config.max_training_steps
        rows = self._rows_of_a_run(exactly=exactly)
        if rows == 0:
            raise DataError("The training data has no row. Look at the file or the filter that it comes from.")
        if rows is None:
            return None
        batches = math.ceil(rows / self._rows_per_batch)
        return batches - sum(number <= batches for number in config.skip_batches)


def _tokenizer(processing_class: Any, model: Any) -> Any:
    if processing_class is not None:
        return processing_class
    if not isinstance(model, str | PathLike):
        raise ConfigError(
            "processing_class",
            None,
            "a tokenizer (easydata_tokenize.load_tokenizer makes one), since the model was given as an object and "
            "not as the folder, Hub id or .gguf file that would hold one",
        )
    return load_tokenizer(model)
