"""Whether model, tokenizer and config go together: told when the trainer is made, before anything is compiled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jinja2
from easydel_models import CausalLM
from easydel_models.cpu_bfloat16 import why_not

from easydel_trainers.config import TrainerConfig
from easydel_trainers.data.training_data import TrainingData
from easydel_trainers.errors import ConfigError
from easydel_trainers.run.previews import prompt_ids

_LOG = logging.getLogger(__name__)

_PROBE = "an answer"


def fit_model(model: Any, data: TrainingData) -> None:
    """Holds model, tokenizer, config and the first rows against each other.

    Raises:
        ConfigError: if they cannot go together.
        DataError: if the first rows hold a token that the model does not know.
    """
    tokenizer, config = data.tokenizer, data.config
    check_routers(model, config)
    warn_of_slow_dtype(model)
    check_vocabulary(model, tokenizer, padding_value=getattr(config, "padding_value", None))
    take_special_tokens(model, tokenizer)
    warn_of_unknown_stop(model, tokenizer)
    most, longest = model.config.max_positions, config.max_length
    if longest is None and data.rules.generates:
        longest = most  # prompts are cut to what completions leave of it
    check_positions(model, tokenizer, config, longest=longest)
    data.fit(vocab_size=model.config.vocab_size, positions=most)


def check_routers(model: Any, config: TrainerConfig) -> None:
    """Refuses a loss of routers where there are none.

    Raises:
        ConfigError: naming the coefficient.
    """
    coefficient = config.router_aux_loss_coef
    if coefficient and not any(layer.feed_forward.num_experts() for layer in model.config.all_layers):
        raise ConfigError("router_aux_loss_coef", coefficient, "0 or None: this model has no experts")


def warn_of_slow_dtype(model: Any) -> None:
    """Warns where what was asked for is not what is computed in, or is computed slowly."""
    if model.dtype != jnp.bfloat16 or jax.default_backend() != "cpu" or (reason := why_not()) is None:
        return
    if model.compute_dtype == model.dtype:
        _LOG.warning("dtype='bfloat16' is slower than 'float32' here: %s.", reason)
    else:
        _LOG.warning(
            "dtype='bfloat16' is computed in float32 here, which is faster: %s. `param_dtype` is as it was asked for.",
            reason,
        )


def take_special_tokens(model: Any, tokenizer: Any) -> None:
    """Makes the tokenizer's special tokens the model's, so that they are saved with it.

    Its EOS token joins those that end a generation; BOS and pad token are given to a model that names none. As
    transformers' trainer does it.
    """
    config = model.config
    ours = {name: getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    fresh: dict[str, Any] = {
        name: ours[name]
        for name in ("bos_token_id", "pad_token_id")
        if getattr(config, name) is None and ours[name] is not None
    }
    stop = ours["eos_token_id"]
    if stop is not None and stop not in config.eos_token_ids and isinstance(model, CausalLM):
        fresh["eos_token_ids"] = (stop, *config.eos_token_ids)
    if fresh:
        model.name_tokens(**fresh)


def warn_of_unknown_stop(model: Any, tokenizer: Any) -> None:
    """Warns where the chat template ends an answer with a token that ends no generation."""
    found = _template_stop(tokenizer)
    if found is None or found in model.config.eos_token_ids or not isinstance(model, CausalLM):
        return
    _LOG.warning(
        "The chat template ends an answer with %r (token %d), which is no EOS token of the tokenizer or the model %s: "
        "a model trained on it will write that token and go on. Set tokenizer.eos_token = %r before training.",
        tokenizer.decode([found]),
        found,
        list(model.config.eos_token_ids),
        tokenizer.decode([found]),
    )


def check_vocabulary(model: Any, tokenizer: Any, *, padding_value: int | None) -> None:
    """Refuses special tokens that the model has no embedding for.

    Raises:
        ConfigError: naming the token.
    """
    size = model.config.vocab_size
    named = {"padding_value": padding_value}
    named |= {f"tokenizer.{name}": getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id")}
    for name, token in named.items():
        if token is not None and not 0 <= token < size:
            raise ConfigError(
                name,
                token,
                f"a token that the model knows, 0 to {size - 1}: tokenizer and model are not of each other, or the "
                "tokenizer was given tokens that the model's embedding has no row for",
            )


def check_positions(model: Any, tokenizer: Any, config: TrainerConfig, *, longest: int | None) -> None:
    """Refuses previews beyond the model's positions, and warns of rows that may reach beyond them.

    Raises:
        ConfigError: naming the preview prompt.
    """
    most = model.config.max_positions
    if longest is None or longest > most:
        _LOG.warning(
            "max_length is %s, and the model was made for %d positions: longer rows train it on positions that it has "
            "never seen. max_length=%d cuts them.",
            longest,
            most,
            most,
        )
    _check_previews(config.preview_prompts, tokenizer, new=config.preview_max_new_tokens, most=most)


def _check_previews(prompts: Sequence[str], tokenizer: Any, *, new: int, most: int) -> None:
    for prompt in prompts:
        length = len(prompt_ids(tokenizer, prompt))
        if not 0 < length <= most - new:
            raise ConfigError(
                "preview_prompts",
                prompt,
                f"texts of 1 to {most - new} tokens (this has {length}): with preview_max_new_tokens={new} the model's "
                f"{most} positions hold no more",
            )


def _template_stop(tokenizer: Any) -> int | None:
    """Returns the token behind an assistant's text; `None` where the template cannot say, or writes nothing there."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    conversation = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _PROBE}]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
    except (jinja2.TemplateError, ValueError, TypeError):
        return None  # one that refuses this conversation; rows that it refuses are told of by what renders them
    _, found, tail = text.rpartition(_PROBE)
    ids = tokenizer.encode(tail.lstrip(), add_special_tokens=False) if found and tail.strip() else []
    return ids[0] if ids else None
