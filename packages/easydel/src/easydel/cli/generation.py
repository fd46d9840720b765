"""A model to use rather than to train: loaded by any of its names, and its answers, whole or as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from easydel.cli.output.errors import CommandError

_FIRST, _NEXT = 8, 16  # tokens shown at a time: the first ones sooner


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """Most tokens of an answer."""
    temperature: float = 0.0
    """0 = always the likeliest token; above, answers are drawn."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0 = all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens that have this share together; 1 = all."""
    seed: int = 0
    """Of the draws."""

    def options(self, *, tokens: int, seed: int) -> dict[str, Any]:
        """Returns what `model.generate` is given for so many tokens."""
        drawn: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            drawn = {"do_sample": True, "temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return {**drawn, "max_new_tokens": tokens, "seed": seed}


def load_language_model(name: str, *, adapter: str | None, tokenizer: str | None) -> tuple[Any, Any]:
    """Returns a causal language model and its tokenizer.

    Args:
        name: folder, Hub id, .gguf file, or `package://PACKAGE/FILE`.
        adapter: folder of PEFT adapters to put on it; `None` = none.
        tokenizer: where the tokenizer is; `None` = with the model.

    Raises:
        CommandError: if it is the folder of a run. What is raised for models and tokenizers is passed on.
    """
    from easydata_tokenize import load_tokenizer
    from easydel_models import AutoEasyDeLModelForCausalLM
    from easydel_models.adapters.peft_files import load_adapter

    _refuse_run(Path(name))
    loaded = load_tokenizer(tokenizer or name)
    model = AutoEasyDeLModelForCausalLM.from_pretrained(name)
    return (model if adapter is None else load_adapter(adapter, model)), loaded


def prompt_ids(tokenizer: Any, prompt: str | Sequence[Mapping[str, str]], *, raw: bool = False) -> list[int]:
    """Returns the tokens that a model is to continue.

    Args:
        tokenizer: of the model.
        prompt: messages, or text, which is put as a user's message where there is a chat template.
        raw: take text as it is.

    Raises:
        CommandError: if messages meet a tokenizer without a chat template.
    """
    if isinstance(prompt, str) and (raw or tokenizer.chat_template is None):
        return tokenizer.encode(prompt)
    if tokenizer.chat_template is None:
        raise CommandError("The tokenizer has no chat template, so it cannot hold a conversation. Use `generate`.")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)


def generated(model: Any, tokenizer: Any, prompts: Sequence[list[int]], sampling: Sampling) -> Any:
    """Returns whole answers to several prompts; see `GenerateResult`.

    Raises:
        CommandError: if an option is out of range or a prompt too long.
    """
    try:
        return model.generate(
            prompts,
            eos_token_id=_stop_tokens(model, tokenizer),
            **sampling.options(tokens=sampling.max_new_tokens, seed=sampling.seed),
        )
    except ValueError as error:  # what it raises for options and prompts it cannot honour; it says which
        raise CommandError(f"{error}.") from None


def streamed(model: Any, tokenizer: Any, prompt: list[int], sampling: Sampling) -> Iterator[str]:
    """Yields an answer in pieces of text, as its tokens come.

    Raises:
        CommandError: as `generated`.
    """
    answer: list[int] = []
    shown = ""
    stops = _stop_tokens(model, tokenizer)
    while len(answer) < sampling.max_new_tokens:
        tokens = min(_NEXT if answer else _FIRST, sampling.max_new_tokens - len(answer))
        try:
            result = model.generate(
                [prompt + answer],
                eos_token_id=stops,
                **sampling.options(tokens=tokens, seed=sampling.seed + len(answer)),
            )
        except ValueError as error:
            raise CommandError(f"{error}.") from None
        answer += result.token_ids[0]
        text = tokenizer.decode(answer, skip_special_tokens=True)
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")  # half a letter waits for its other half
        yield whole[len(shown) :]
        shown = whole
        if result.finish_reasons[0] == "stop":
            return


def _stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    return sorted({*model.config.eos_token_ids, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])})


def _refuse_run(folder: Path) -> None:
    """Raises for the folder of a run, which holds a model in a folder of its own, or checkpoints."""
    from easydel.cli.training.config_yaml import RUN_FILE

    if not (folder / RUN_FILE).is_file() or (folder / "config.json").is_file():
        return
    if (folder / "model" / "config.json").is_file():
        raise CommandError(f"{folder} is the folder of a run. Its model is {folder / 'model'}.")
    raise CommandError(
        f"{folder} is the folder of a run that has not ended. `easydel export {folder} FOLDER` makes a model of its "
        "newest checkpoint."
    )
