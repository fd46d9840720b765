"""`easydel generate MODEL PROMPT …`: a model's answers to some prompts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, final

import tyro
from easydata_sources.safe_text import printable

from easydel.cli.generation import Sampling, generated, load_language_model, prompt_ids
from easydel.cli.output.console import print_json
from easydel.cli.output.errors import EXIT_OK, CommandError
from easydel.cli.settings.command_line import parse_flags


@final
@dataclass(frozen=True, kw_only=True)
class GenerateFlags:
    """Continue prompts with a model, a batch at a time.

    Prompts are words on the command line, lines of a file, or lines of standard input. Where the tokenizer has a chat
    template, each is put as a user's message. With --json every answer is one line of JSON.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder, Hub id, .gguf file, or package://PACKAGE/FILE."""
    prompts: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[PROMPT ...]")] = ()
    """Texts to continue. None = the lines of --file, or of standard input."""
    file: Path | None = None
    """File with one prompt a line."""
    raw: bool = False
    """Continue the text as it is, without a chat template."""
    system: str | None = None
    """System message put before each prompt."""
    adapter: str | None = None
    """Folder of PEFT adapters to put on the model."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. None = the model's own."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = field(default_factory=Sampling)
    json: bool = False
    """Print {"prompt", "text", "tokens", "finish_reason"} of each answer as a line of JSON."""


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(GenerateFlags, words, command=f"easydel {command}")
    prompts = _prompts(flags)

    model, tokenizer = load_language_model(flags.model, adapter=flags.adapter, tokenizer=flags.tokenizer)
    before = [] if flags.system is None else [{"role": "system", "content": flags.system}]
    asked = [[*before, {"role": "user", "content": prompt}] if before else prompt for prompt in prompts]
    prompt_tokens = [prompt_ids(tokenizer, each, raw=flags.raw) for each in asked]
    result = generated(model, tokenizer, prompt_tokens, flags.sampling)
    for prompt, ids, reason in zip(prompts, result.token_ids, result.finish_reasons, strict=True):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if flags.json:
            print_json({"prompt": prompt, "text": text, "tokens": len(ids), "finish_reason": reason})
        elif len(prompts) == 1:
            print(printable(text))
        else:
            print(printable(f"> {prompt}\n{text}\n"))
    return EXIT_OK


def _prompts(flags: GenerateFlags) -> list[str]:
    if flags.prompts:
        return list(flags.prompts)
    if flags.file is not None:
        try:
            text = flags.file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(f"--file {flags.file} cannot be read: {error}.") from None
    elif sys.stdin.isatty():
        raise CommandError("There is no prompt. Write one behind the model, or pipe lines in.")
    else:
        text = sys.stdin.read()
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise CommandError("There is no prompt: no line with text in it was given.")
    return lines
