"""What users call: from model, config and rows to a trained model.

`Trainer` wires the parts of a training and offers what users do with them. Its methods are final: what tells one
trainer from another is its `Algorithm`; each public trainer is a thin class that names one and takes its arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Generic, Literal, TypeVar, final

import jax
import numpy as np
from easydata_sources import DataReport
from easydata_tokenize import load_tokenizer
from easydel_models.parameters import split_params

from easydel_trainers.algorithm import Algorithm
from easydel_trainers.checkpoints.identity import weights_identity
from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.training_data import TrainingData, held_out_sources
from easydel_trainers.errors import ConfigError
from easydel_trainers.model.adapters import adapted, check_attention
from easydel_trainers.model.fit import fit_model, take_special_tokens
from easydel_trainers.model.model_files import ModelFiles
from easydel_trainers.run.callbacks import Callback
from easydel_trainers.run.evaluation import evaluate, refuse_unknown_metrics
from easydel_trainers.run.interruption import StopAtOnce
from easydel_trainers.run.output import TrainOutput
from easydel_trainers.run.run import train
from easydel_trainers.step.device_mesh import check_batches, on_mesh, row_parts, training_mesh
from easydel_trainers.step.program import Program
from easydel_trainers.step.schedule import learning_rate_schedule
from easydel_trainers.step_source import EvalState
from easydel_trainers.training import Training
from easydel_trainers.trl.arguments import refuse_other_resuming

Config = TypeVar("Config", bound=TrainerConfig)


class Trainer(ABC, Generic[Config]):
    """Trains a model on rows. Abstract: `SFTTrainer` and its sisters each name an algorithm.

    Args:
        model: a model object, or what `from_pretrained` takes: a folder, a Hub id or a `.gguf` file. The trainer
            owns it from here on: its parameters change as training goes.
        arguments: the config; `None` = all defaults.
        processing_class: the tokenizer; `None` = the one beside the model, if the model was named by a path.
        train_dataset: HF `Dataset` or `IterableDataset`, any `ShardedDataSource`, a list of dicts, a data frame, or a
            path or glob; raw or tokenized rows.
        eval_dataset: the same, held out; or a dict of several by name, whose metrics become `eval_<name>_…`.
        callbacks: told of every step, log record and evaluation; they may stop the run.
        algorithm: makes the algorithm of a config and a tokenizer; `None` = its type does, and needs nothing else.

    Raises:
        ConfigError: if model, config and data cannot go together.
        DataError: if the first rows cannot be read or recognised; nothing has been compiled by then.
    """

    def __init__(
        self,
        model: Any,
        arguments: Config | None,
        *,
        processing_class: Any,
        train_dataset: Any,
        eval_dataset: Any,
        callbacks: Sequence[Callback],
        algorithm: Callable[[Config, Any], Algorithm[Config]] | None = None,
    ):
        config = _checked_config(arguments, self.algorithm_type())
        self.arguments, self.processing_class = config, _tokenizer(processing_class, model)
        self.callbacks: Sequence[Callback] = tuple(callbacks)
        mesh = training_mesh(config)
        check_batches(config, mesh)
        self.algorithm = how = (algorithm or self.algorithm_type())(config, self.processing_class)
        _refuse_for_several_processes(how)
        self.data = TrainingData(how, train_dataset, eval_dataset, parts=row_parts(mesh))
        first_rows = self.data.try_first_rows()
        if how.check_rows is not None:
            how.check_rows(first_rows)
        if config.scheduler != "constant":
            self.data.count_exactly()
        schedule = learning_rate_schedule(config, total_steps=self.data.total_steps)
        check_attention(config)
        loaded = on_mesh(adapted(how.load_model(model), config), mesh)
        fit_model(loaded, self.data)
        objective = how.objective(split_params(loaded)[0])
        self.program = Program(loaded, config, objective=objective, schedule=schedule, mesh=mesh)
        self.source = how.step_source(self.data, self.program)
        name = str(model) if isinstance(model, str | PathLike) else None
        self._files = ModelFiles(loaded, self.processing_class, config, name=name)
        self._weights_before = {} if config.save_directory is None else weights_identity(self.program)
        self._model_name = name

    @classmethod
    @abstractmethod
    def algorithm_type(cls) -> type[Algorithm[Config]]:
        """Returns the algorithm that it trains by."""

    @classmethod
    @final
    def without_model(
        cls, arguments: Config | None = None, *, processing_class: Any, train_dataset: Any, eval_dataset: Any = None
    ) -> TrainingData:
        """Returns the rows of a training without a model: for looking at the very rows and batches that training would
        use.

        It explains rows, gives batches and counts steps. No row is read yet, so that bad ones can be looked at, too.

        Args:
            arguments: see `Trainer`.
            processing_class: the tokenizer, or what `load_tokenizer` takes.
            train_dataset: see `Trainer`.
            eval_dataset: see `Trainer`.

        Raises:
            ConfigError: if config and data cannot go together.
            DataError: if there are no rows.
        """
        algorithm = cls.algorithm_type()
        tokenizer = load_tokenizer(processing_class) if isinstance(processing_class, str) else processing_class
        return TrainingData(algorithm(_checked_config(arguments, algorithm), tokenizer), train_dataset, eval_dataset)

    @classmethod
    @final
    def without_rows(cls, model: Any, arguments: Config, *, processing_class: Any = None) -> ModelFiles:
        """Returns the model of a training without its rows, to `restore` it from a run's folder and save it.

        It asks for no rows, no rewards and no reference model, and for no more devices than there are.

        Args:
            model: see `Trainer`; the one that the run was started from.
            arguments: those of the run.
            processing_class: the tokenizer, or what `load_tokenizer` takes; `None` = the one beside the model.

        Raises:
            ConfigError: if model and config cannot go together.
        """
        tokenizer = load_tokenizer(processing_class) if isinstance(processing_class, str) else processing_class
        tokenizer = _tokenizer(tokenizer, model)
        config = replace(arguments, dp=1, fsdp=-1, ep=1, tp=1, sp=1)
        loaded = adapted(cls.algorithm_type()(config, tokenizer).load_model(model), config)
        loaded = on_mesh(loaded, training_mesh(config))
        take_special_tokens(loaded, tokenizer)
        return ModelFiles(loaded, tokenizer, config, name=str(model) if isinstance(model, str | PathLike) else None)

    @property
    @final
    def model(self) -> Any:
        """The model that is trained."""
        return self.program.model

    @property
    @final
    def data_report(self) -> DataReport:
        """Counts of rows read, cut, dropped or odd so far, by reason."""
        return self.data.report

    @property
    @final
    def total_steps(self) -> int | None:
        """Optimizer steps of a whole run; `None` where the rows cannot be counted."""
        return self.data.total_steps

    @property
    @final
    def training(self) -> Training:
        """The parts of the training, as a run takes them."""
        return Training(
            name=type(self).__name__,
            model_name=self._model_name,
            data=self.data,
            program=self.program,
            source=self.source,
            callbacks=self.callbacks,
            weights_before=self._weights_before,
        )

    @final
    def train(self, resume_from_checkpoint: Literal[True] | None = None) -> TrainOutput:
        """Trains to the end, from the newest checkpoint if there is one and `resume` allows it.

        Args:
            resume_from_checkpoint: TRL's way to ask for what is done anyway.

        Raises:
            ConfigError: if `resume_from_checkpoint` asks for anything else.
            CheckpointError: if the checkpoint found belongs to another run.
            DivergedError: when the loss is no longer finite.
            DataQualityError: when too many rows are cut, dropped or odd.
        """
        refuse_other_resuming(resume_from_checkpoint)
        with StopAtOnce(enabled=jax.process_count() == 1):
            self.source.prepare(own_rows=True)
        refuse_unknown_metrics(self.source, self.arguments, self.callbacks, self.program.extras)
        return train(self.training)

    @final
    def restore(self) -> int:
        """Gives the model the parameters of the newest whole checkpoint of `save_directory`, without training.

        See `ModelFiles.restore`.
        """
        return self._files.restore()

    @final
    def evaluate(self, dataset: Any = None) -> dict[str, float]:
        """Returns metrics on held-out rows, weighted by their tokens, with the prefix `eval_`.

        Args:
            dataset: rows as for `eval_dataset`; `None` = those of the trainer.
        """
        held_out = self.data.held_out if dataset is None else held_out_sources(dataset)
        if not held_out:
            raise ConfigError("eval_dataset", None, "held-out rows, here or when the trainer is made")
        self.source.prepare(own_rows=dataset is None)
        state = EvalState(params=self.program.trained_params, extras=self.program.extras, step=0)
        return evaluate(self.source, held_out, state)

    @final
    def explain(self, row: Mapping[str, Any]) -> str:
        """Returns one raw row as training sees it: a table of its tokens with label, mask and segment. Counts
        nothing.
        """
        return self.data.explain(row)

    @final
    def describe_batch(self, position: Mapping[str, Any] | None) -> list[str]:
        """Returns the rows of the batch that begins at a data position: where each comes from, and how its text begins.

        Args:
            position: as a divergence or a loss spike names it, or a checkpoint's `data`; `None` = the beginning.
        """
        return self.data.describe_batch(position)

    @final
    def save_pretrained(self, path: str | PathLike[str]) -> None:
        """Writes model and tokenizer as a Hugging Face folder; adapters are merged into the kernels.

        With several processes all must call it; process 0 writes.
        """
        self._files.save_pretrained(path)

    @final
    def save_model(self, output_dir: str | PathLike[str]) -> None:
        """`save_pretrained` by the name it has in TRL."""
        self._files.save_pretrained(output_dir)

    @final
    def save_adapter(self, path: str | PathLike[str]) -> None:
        """Writes the adapters alone, in the files of `peft`.

        Raises:
            LoraError: if the model has none.
        """
        self._files.save_adapter(path)

    @final
    def _training_batch_iterator(self) -> Iterator[dict[str, np.ndarray]]:
        """Returns whole batches of the training order as padded arrays, from the start; training does not advance.

        Each has `input_ids` and `attention_mask`, int32 `[rows, length]`. SFT: `labels`, and a row each. Pairs and
        completions: `labels` and `completion_mask`, the first sequences of all rows (the chosen ones of pairs), then
        the second ones. GRPO: prompts, padded on the left, each `num_return_sequences` times, side by side.
        """
        return self.data.padded_batches()


def _checked_config(arguments: Any, algorithm: type[Algorithm[Any]]) -> Any:
    kind = algorithm.config_type
    if arguments is not None and not isinstance(arguments, kind):
        found = type(arguments)
        raise ConfigError(
            "arguments",
            f"{found.__module__.partition('.')[0]}.{found.__name__}",
            f"a {kind.__name__}: settings of other configs keep their names in it where they mean the same",
        )
    return kind() if arguments is None else arguments


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


def _refuse_for_several_processes(algorithm: Algorithm[Any]) -> None:
    """What a run of several processes does not do yet."""
    config = algorithm.config
    if jax.process_count() == 1:
        return
    if config.preview_prompts:
        raise ConfigError("preview_prompts", config.preview_prompts, "none with several processes")
    if algorithm.generates:
        name = type(algorithm).__name__
        raise ConfigError("trainer", f"{name}Trainer", "one that generates nothing, with several processes")
    if config.bad_rows != "raise":
        raise ConfigError("bad_rows", config.bad_rows, "'raise' with several processes")
