"""`easydel export SOURCE FOLDER`: a model, with or without adapters, as files that others load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from easydel.cli.errors import EXIT_OK, CommandError
from easydel.cli.flags import parse_flags
from easydel.cli.printed import RUN_FILE


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a model as a Hugging Face folder, or its adapters as PEFT does.

    SOURCE is a model (folder, Hub id, .gguf file, package://PACKAGE/FILE), or the save_directory of a run of ours,
    whose newest whole checkpoint is taken, be the run finished or not.
    """

    source: Annotated[str, tyro.conf.Positional]
    """A model, or a run's folder."""
    output: Annotated[Path, tyro.conf.Positional]
    """Folder to write."""
    adapter: str | None = None
    """Folder of PEFT adapters to merge into the model."""
    format: Literal["hf", "peft"] = "hf"
    """hf: a whole model, adapters merged. peft: the adapters of a LoRA run alone."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. None = the model's own."""
    json: bool = False
    """Print {"output", "format", "step", "parameters"} as one line of JSON."""


def run(arguments: Sequence[str], command: str) -> int:
    """Carry out one command line; returns the exit code."""
    flags = parse_flags(ExportFlags, arguments, command=f"easydel {command}")
    is_run = Path(flags.source, "checkpoints").is_dir()
    if flags.format == "peft" and not is_run:
        raise CommandError(f"--format peft wants the folder of a LoRA run; {flags.source} holds no checkpoints.")
    if is_run and flags.adapter is not None:
        raise CommandError("--adapter goes on a model, not on a run, which has its own adapters or none.")
    step, size = _export_run(flags) if is_run else _export_model(flags)

    from easydel.cli.shown import print_json

    if flags.json:
        print_json({"output": str(flags.output), "format": flags.format, "step": step, "parameters": size})
    else:
        origin = flags.source if step is None else f"step {step} of {flags.source}"
        print(f"{flags.output}: {origin}, {size:,} parameters")
    return EXIT_OK


def _export_model(flags: ExportFlags) -> tuple[None, int]:
    from easydel_trainers.model.export import save_with_tokenizer

    from easydel.cli.loaded import load_language_model, size_of

    model, tokenizer = load_language_model(flags.source, adapter=flags.adapter, tokenizer=flags.tokenizer)
    save_with_tokenizer(flags.output, model, tokenizer)
    return None, size_of(model)


def _export_run(flags: ExportFlags) -> tuple[int, int]:
    import easydel_trainers

    from easydel.cli.assembly import tokenizer_of
    from easydel.cli.loaded import size_of
    from easydel.cli.locations import model_location

    config, trainer_name = _config_of(Path(flags.source), flags.tokenizer)
    # Of what the folder names only the model is opened: it may be a stranger's.
    trainer = getattr(easydel_trainers, trainer_name).without_rows(
        model_location(config.model), config.training, processing_class=tokenizer_of(config)
    )
    step = trainer.restore()
    if flags.format == "peft":
        trainer.save_adapter(flags.output)
    else:
        trainer.save_pretrained(flags.output)
    return step, size_of(trainer.model)


def _config_of(folder: Path, tokenizer: str | None) -> tuple[Any, str]:
    from easydel.cli.settings import read_settings
    from easydel.cli.training import TRAINING_COMMANDS
    from easydel.cli.typed import build_config

    file = folder / RUN_FILE
    if not file.is_file():
        raise CommandError(
            f"{folder} has no {RUN_FILE}, which training commands leave there to say what the run was. For a run of a "
            "script, call trainer.restore() and trainer.save_pretrained(…) in it."
        )
    settings = read_settings(file)
    named = settings.value.get("trainer")
    name = None if named is None else named.value
    if not isinstance(name, str) or name not in TRAINING_COMMANDS:
        expected = ", ".join(TRAINING_COMMANDS)
        raise CommandError(f"{file} does not say whose run it is; expected `trainer:` with one of {expected}.")
    kind = TRAINING_COMMANDS[name]
    config: Any = build_config(kind.config, settings)
    training = replace(config.training, save_directory=str(folder))
    return replace(config, training=training, tokenizer=tokenizer or config.tokenizer), kind.trainer
