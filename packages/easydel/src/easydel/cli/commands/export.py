"""`easydel export SOURCE FOLDER`: a model, with or without adapters, as files that others load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, final

import tyro

from easydel.cli.output.errors import EXIT_OK, CommandError
from easydel.cli.settings.command_line import parse_flags


@final
@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a model as a Hugging Face folder, or its adapters as PEFT does.

    SOURCE is a model (folder, Hub id, .gguf file, package://PACKAGE/FILE), or the save_directory of a run of ours,
    whose newest whole checkpoint is taken, be the run finished or not.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A model, or a run's folder."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder to write."""
    adapter: str | None = None
    """Folder of PEFT adapters to merge into the model."""
    format: Literal["hf", "peft"] = "hf"
    """hf: a whole model, adapters merged. peft: the adapters of a LoRA run alone."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. None = the model's own."""
    json: bool = False
    """Print {"output", "format", "step", "parameters"} as one line of JSON."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(ExportFlags, words, command=f"easydel {command}")
    is_run = Path(flags.source, "checkpoints").is_dir()
    if flags.format == "peft" and not is_run:
        raise CommandError(f"--format peft wants the folder of a LoRA run; {flags.source} holds no checkpoints.")
    if is_run and flags.adapter is not None:
        raise CommandError("--adapter goes on a model, not on a run, which has its own adapters or none.")
    step, size = _export_run(flags) if is_run else _export_model(flags)

    from easydel.cli.output.console import print_json

    if flags.json:
        print_json({"output": str(flags.output), "format": flags.format, "step": step, "parameters": size})
    else:
        origin = flags.source if step is None else f"step {step} of {flags.source}"
        print(f"{flags.output}: {origin}, {size:,} parameters")
    return EXIT_OK


def _export_model(flags: ExportFlags) -> tuple[None, int]:
    from easydel_models.parameters import count_parameters, split_params
    from easydel_trainers.model.export import save_with_tokenizer

    from easydel.cli.generation import load_language_model

    model, tokenizer = load_language_model(flags.source, adapter=flags.adapter, tokenizer=flags.tokenizer)
    save_with_tokenizer(flags.output, model, tokenizer)
    return None, count_parameters(split_params(model)[1])


def _export_run(flags: ExportFlags) -> tuple[int, int]:
    from easydel_models.parameters import count_parameters, split_params

    from easydel.cli.training.config_yaml import config_of_run
    from easydel.cli.training.configs import TRAINING_COMMANDS
    from easydel.cli.training.trainer import tokenizer_of

    config = config_of_run(Path(flags.source))
    if flags.tokenizer is not None:
        config = replace(config, tokenizer=flags.tokenizer)
    # Of what the folder names only the model is opened: it may be a stranger's.
    trainer = TRAINING_COMMANDS[config.trainer].trainer_class.without_rows(
        config.model, config.training, processing_class=tokenizer_of(config)
    )
    step = trainer.restore()
    if flags.format == "peft":
        trainer.save_adapter(flags.output)
    else:
        trainer.save_pretrained(flags.output)
    return step, count_parameters(split_params(trainer.model)[1])
