"""Generation in this process, on the model's own weights.

Up to `batch_size` completions are decoded together, a block of steps at a time; between blocks the finished ones make
room for those that wait. The random number for a token depends on (seed, number of the completion among all, how many
tokens came before) and on nothing else, so the same prompts give the same tokens whatever the batch size, the block
size or the order in which rows become free, ties aside.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array

from easydel_models.errors import OptionsError
from easydel_models.generation.batch import Batch, OnTokens, Work
from easydel_models.generation.block import BlockPlan
from easydel_models.generation.options import GenerateResult, GenerationOptions, eos_tuple
from easydel_models.generation.prefill import Prefiller
from easydel_models.generation.progress import ProgressLine
from easydel_models.generation.prompt_queue import Completion, PromptQueue
from easydel_models.generation.prompts import checked_prompts, token_lists
from easydel_models.generation.sampling import Sampling
from easydel_models.generation.shapes import at_least
from easydel_models.generation.stops import Decode, stop_ids
from easydel_models.generation.weights import decode_weights

if TYPE_CHECKING:
    from easydel_models.heads import CausalLM


class ModelEngine:
    """A `GenerationEngine` on one model; see `easydel_models.generation.weights` for what it copies of it. Final."""

    def __init__(
        self,
        model: "CausalLM",
        *,
        batch_size: int = 64,
        block_size: int = 32,
        decode: Decode | None = None,
        on_tokens: OnTokens | None = None,
        progress_bar: bool = False,
    ):
        """Wraps a model.

        Args:
            model: The weights to begin with, of any compute dtype, with or without adapters.
            batch_size: Most completions decoded together; bounds the memory of the cache.
            block_size: Steps between two looks at what is finished; has no effect on the result.
            decode: Turns token ids into text, for `GenerationOptions.stop_strings`.
            on_tokens: Called after each block with the number of a completion and its newest tokens.
            progress_bar: Write a line to stderr that says how far it is.
        """
        for name, value in {"batch_size": batch_size, "block_size": block_size}.items():
            if value < 1:
                raise OptionsError(f"`{name}` must be >= 1, got {value}")
        self._model = model
        self._batch_size = batch_size
        self._block_size = block_size
        self._decode = decode
        self._on_tokens = on_tokens
        self._progress_bar = progress_bar

    def generate(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> GenerateResult:
        """Continues each prompt; completions of one prompt lie side by side in the result.

        Raises:
            OptionsError: If a prompt is empty, too long, or holds an unknown id (it is named by its number), or if
                there are stop strings and no ``decode``.
        """
        rows = checked_prompts(prompts, self._model.config, options.max_new_tokens)
        repeated = [row for row in rows for _ in range(options.num_return_sequences)]
        together = min(at_least(len(repeated)), self._batch_size)
        work = self._work(options, together)
        completions = [Completion(index=index, prompt=prompt) for index, prompt in enumerate(repeated)]
        if completions:
            self._run(work, completions, together)
        return GenerateResult(
            token_ids=[one.tokens for one in completions],
            logprobs=[one.logprobs for one in completions],
            finish_reasons=["length" if one.finish_reason is None else one.finish_reason for one in completions],
        )

    def update(self, model: "CausalLM") -> None:
        """Generates with this model's weights from now on."""
        self._model = model

    def _run(self, work: Work, completions: list[Completion], rows: int) -> None:
        queue = PromptQueue(completions, Prefiller.of_model(self._model))
        batch = Batch(work, rows)
        with ProgressLine(len(completions), shown=self._progress_bar) as progress:
            batch.fill(queue)
            while batch.busy:
                finished = batch.advance(more_wait=len(queue) > 0)
                progress.add(finished)
                batch.fill(queue)
                if not queue:
                    batch.shrink()

    def _work(self, options: GenerationOptions, rows: int) -> Work:
        if options.stop_strings and self._decode is None:
            raise OptionsError(
                f"stop_strings={list(options.stop_strings)} need `decode`, a function from token ids to text: "
                "the model knows no tokenizer; pass decode=tokenizer.decode"
            )
        config, stops = self._model.config, stop_ids(self._model.config, options.eos_token_ids)
        plan = BlockPlan(
            config=config,
            block_size=self._block_size,
            sampling=_sampling(options),
            repetition_penalty=options.repetition_penalty,
            holds_back=options.min_new_tokens > 0,
        )
        return Work(
            plan=plan,
            weights=decode_weights(self._model, rows),
            options=options,
            stop_ids=stops,
            decode=self._decode,
            on_tokens=self._on_tokens,
        )


def generate(
    model: "CausalLM",
    prompts: Sequence[Sequence[int]] | np.ndarray | Array,
    *,
    max_new_tokens: int,
    attention_mask: np.ndarray | Array | None = None,
    num_return_sequences: int = 1,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    seed: int = 0,
    eos_token_id: int | Sequence[int] | None = None,
    stop_strings: str | Sequence[str] = (),
    decode: Decode | None = None,
    batch_size: int = 64,
    block_size: int = 32,
    on_tokens: OnTokens | None = None,
    progress_bar: bool = False,
) -> GenerateResult:
    """Continues each prompt until a stop token, a stop string or the token limit.

    Args:
        model: Of any compute dtype, with or without adapters.
        prompts: One list of token ids each; or a padded array [B, T] together with `attention_mask`.
        max_new_tokens: Most tokens to add to a prompt, at least 1.
        attention_mask: For an array: 1 = token, 0 = padding on either side. None = no padding.
        num_return_sequences: Completions of each prompt.
        do_sample: Draw tokens instead of taking the likeliest.
        temperature: Above 0; divides the logits. Only with `do_sample`, as the next three.
        top_k: Draw from the k likeliest tokens; 0 = all.
        top_p: Draw from the fewest likeliest tokens that together have at least this share; 1 = all.
        min_p: Draw from the tokens at least this many times as likely as the likeliest; 0 = all.
        repetition_penalty: Divides the positive logits of tokens that the row already has; 1 = none.
        min_new_tokens: No stop token before so many tokens.
        seed: Of the draws.
        eos_token_id: The stop token or tokens; None = those of the model's configuration; an empty list = none.
        stop_strings: A completion ends with the token that completes one of them; needs `decode`.
        decode: Turns token ids into text, for instance a tokenizer's ``decode``.
        batch_size: Most completions decoded together; bounds the memory of the cache.
        block_size: Steps between two looks at what is finished; has no effect on the result.
        on_tokens: Called after each block with the number of a completion and its newest tokens.
        progress_bar: Write a line to stderr that says how far it is.

    Returns:
        New tokens and their log-probabilities, in the order of the prompts, completions of one prompt side by side.

    Raises:
        OptionsError: If an option is out of range, or a prompt is empty, too long, or holds an unknown id; the prompt
            is named by its number.
    """
    options = GenerationOptions(
        max_new_tokens=max_new_tokens,
        num_return_sequences=num_return_sequences,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        min_new_tokens=min_new_tokens,
        seed=seed,
        eos_token_ids=eos_tuple(eos_token_id),
        stop_strings=(stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings),
    )
    engine = ModelEngine(
        model,
        batch_size=batch_size,
        block_size=block_size,
        decode=decode,
        on_tokens=on_tokens,
        progress_bar=progress_bar,
    )
    return engine.generate(token_lists(prompts, attention_mask), options)


def _sampling(options: GenerationOptions) -> Sampling | None:
    if not options.do_sample:
        return None
    return Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p)
