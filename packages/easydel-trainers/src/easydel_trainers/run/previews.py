"""What the model answers to a few texts as it is trained, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from easydel_models.generation.weights import forget_copy

from easydel_trainers.errors import ConfigError
from easydel_trainers.records.files import append_line, read_lines
from easydel_trainers.run.resource_use import give_back

PREVIEWS_NAME = "previews.jsonl"


def greedy_answers(model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
    """Returns the most probable answer to each text, token by token, without special tokens.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer; where it has a chat template, a text is put as a user's message.
        prompts: plain texts.
        max_new_tokens: an answer that is longer is cut there.
    """
    if not prompts:
        return []
    if jax.process_count() > 1:
        raise ConfigError("preview prompts", prompts, "none with several processes")
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    result = model.generate(ids, max_new_tokens=max_new_tokens, eos_token_id=_stop_ids(model, tokenizer))
    forget_copy(model)
    give_back()  # before training takes its share
    return [tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in result.token_ids]


def write_previews(folder: Path, step: int, prompts: Sequence[str], answers: Sequence[str]) -> None:
    """Appends one line with the answers of a step to `previews.jsonl`."""
    previews = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(prompts, answers, strict=True)]
    append_line(folder / PREVIEWS_NAME, {"step": step, "previews": previews})


def read_previews(folder: Path) -> list[tuple[int, str, str]]:
    """Returns step, prompt and answer of every preview so far."""
    lines = read_lines(folder / PREVIEWS_NAME)
    return [
        (line["step"], preview["prompt"], preview["answer"]) for line in lines for preview in line.get("previews", [])
    ]


def _stop_ids(model: Any, tokenizer: Any) -> list[int]:
    own = getattr(tokenizer, "eos_token_id", None)
    return sorted({*model.config.eos_token_ids, *(() if own is None else (own,))})


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Returns the tokens that a preview begins with: a user's message where there is a chat template."""
    if tokenizer.chat_template is None:
        return tokenizer.encode(prompt)
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
