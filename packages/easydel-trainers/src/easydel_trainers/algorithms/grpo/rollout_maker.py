"""From prompts to a rollout: sample, reward, compare, arrange."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np
from easydel_models.errors import EngineError
from easydel_models.generation.engine import GenerationEngine
from easydel_models.generation.options import GenerateResult, GenerationOptions
from easydel_models.lm_loss import IGNORE_INDEX
from jaxtyping import Float

from easydel_trainers.algorithms.grpo.advantages import Advantages, advantages_of, mean_and_deviation
from easydel_trainers.algorithms.grpo.config import GRPOConfig
from easydel_trainers.algorithms.grpo.corrections import correction_metrics, corrections_of
from easydel_trainers.algorithms.grpo.prompts import Prompts, columns_of
from easydel_trainers.algorithms.grpo.rewards import RewardFunctions, RewardInputs, RewardLog, TrainerState
from easydel_trainers.algorithms.grpo.rollout import (
    Completion,
    Rollout,
    completion_metrics,
    completion_step_rows,
)
from easydel_trainers.data.layout import Arrays, Row
from easydel_trainers.records.sampled import Sampled
from easydel_trainers.run.resource_use import compile_seconds
from easydel_trainers.step.metrics import Ratios

_ENGINE_LOGPS = "engine_logps"
_NEGLIGIBLE = 0.01  # share of a rollout's time that compiling may take without its speed being left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """The parameters that sample a rollout, in the forms that its parts need.

    Attributes:
        engine: has taken over the parameters.
        logps: log-probabilities of a rollout's arrays under them, where they must be known before its first step;
            else `None`.
        sampled_at: optimizer steps that they have seen.
    """

    engine: GenerationEngine
    logps: Callable[[Arrays], jax.Array] | None
    sampled_at: int


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutMaker:
    """Makes rollouts.

    Attributes:
        config: how.
        tokenizer: turns completions into text.
        rewards: what judges them.
        layout: how they are arranged, given the most rows of a micro-batch.
        stop_ids: tokens that end a completion.
        corrects: whether the engine's log-probabilities are another model's, and differ.
        last_step: steps of the whole run, for reward functions; `None` = unknown.
        vocab_size: tokens that the model knows.
        columns: of the data, which rows of this rollout may lack.
    """

    config: GRPOConfig
    tokenizer: Any
    rewards: RewardFunctions
    arrange: Callable[[Sequence[Any]], Arrays]
    stop_ids: tuple[int, ...]
    corrects: bool
    last_step: int | None
    vocab_size: int
    columns: frozenset[str] = frozenset()

    def make(self, prompts: Prompts, sampler: Sampler, *, seed: int) -> Rollout:
        """Samples and judges completions.

        Args:
            prompts: each is answered `num_return_sequences` times.
            sampler: by whom.
            seed: of the draws.

        Raises:
            RewardError: if a reward function does not do what it should.
        """
        began, compiled_before = time.perf_counter(), compile_seconds()
        completions = self._sampled(prompts.rows, sampler.engine, seed)
        sampled, sampled_compiled = time.perf_counter(), compile_seconds() - compiled_before
        log = RewardLog()
        inputs = self._reward_inputs(prompts.rows, completions, sampler.sampled_at)
        rewards = self.rewards.score(inputs, log)
        found = self._advantages(rewards)
        rewarded = time.perf_counter()
        arrays, corrected = self._arrays(completions, found, sampler)
        tokens, seconds = sum(len(completion.token_ids) for completion in completions), sampled - began
        compiled = sampled_compiled > _NEGLIGIBLE * seconds
        measured: Ratios = {
            **self._reward_metrics(rewards, found),
            **completion_metrics(completions),
            **corrected,
            **log.metrics,
            **({} if compiled else {"rollout/tokens_per_second": (float(tokens), seconds)}),
            "rollout/seconds": (seconds, 1.0),
            "rollout/reward_seconds": (rewarded - sampled, 1.0),
        }
        return Rollout(
            number=prompts.number,
            epoch=prompts.epoch,
            position=prompts.position,
            sampled_at=sampler.sampled_at,
            arrays=arrays,
            measured=measured,
            shown=self._shown(completions, rewards, found, log),
        )

    def _sampled(self, rows: Sequence[Row], engine: GenerationEngine, seed: int) -> list[Completion]:
        config, group = self.config, self.config.num_return_sequences
        prompts = [[int(token) for token in row["prompt_ids"]] for row in rows]
        result = engine.generate(
            prompts,
            GenerationOptions(
                max_new_tokens=config.max_completion_length,
                num_return_sequences=group,
                do_sample=True,
                temperature=config.temperature,
                top_k=config.top_k,
                top_p=config.top_p,
                min_p=config.min_p,
                repetition_penalty=config.repetition_penalty,
                seed=seed,
                eos_token_ids=self.stop_ids,
            ),
        )
        self._check_answer(result, prompts)
        return [
            Completion(
                prompt_ids=prompts[number // group],
                token_ids=ids,
                logps=result.logprobs[number],
                ended=ids[-1] in self.stop_ids,
            )
            for number, ids in enumerate(result.token_ids)
        ]

    def _check_answer(self, result: GenerateResult, prompts: Sequence[Sequence[int]]) -> None:
        """Holds an engine to its word, whoever wrote it.

        Raises:
            EngineError: naming the prompt, if a completion is missing, empty, too long, or holds what is no token.
        """
        config, known = self.config, self.vocab_size
        wanted = len(prompts) * config.num_return_sequences
        for name, answers in (("completions", result.token_ids), ("lists of log-probabilities", result.logprobs)):
            if len(answers) != wanted:
                raise EngineError(f"The engine gave {len(answers)} {name} for {wanted} that were asked for.")
        for number, (ids, logps) in enumerate(zip(result.token_ids, result.logprobs, strict=True)):
            wrong = None
            if not 1 <= len(ids) <= config.max_completion_length:
                wrong = f"has {len(ids)} tokens; expected 1 to {config.max_completion_length}, its stop token included"
            elif len(logps) != len(ids):
                wrong = f"has {len(logps)} log-probabilities for {len(ids)} tokens; expected one for each"
            elif not 0 <= min(ids) <= max(ids) < known:
                wrong = f"holds the token {min(ids) if min(ids) < 0 else max(ids)}; the model knows 0 to {known - 1}"
            if wrong:
                prompt, one = divmod(number, config.num_return_sequences)
                raise EngineError(f"The engine's completion {one} of prompt {prompt} {wrong}. Look at the engine.")

    def _reward_inputs(self, rows: Sequence[Row], completions: Sequence[Completion], step: int) -> RewardInputs:
        group = self.config.num_return_sequences
        texts = [self.tokenizer.decode(list(one.token_ids), skip_special_tokens=True) for one in completions]
        prompts = [self._prompt(row) for row in rows for _ in range(group)]
        names = {*columns_of(rows), *self.columns}
        return RewardInputs(
            prompts=prompts,
            completions=[
                text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
                for prompt, text in zip(prompts, texts, strict=True)
            ],
            completion_ids=[one.token_ids for one in completions],
            columns={name: [row.get(name) for row in rows for _ in range(group)] for name in sorted(names)},
            state=TrainerState(global_step=step, max_steps=self.last_step),
        )

    def _prompt(self, row: Row) -> Any:
        return row["prompt"] if "prompt" in row else self.tokenizer.decode(list(row["prompt_ids"]))

    def _advantages(self, rewards: Float[np.ndarray, "R F"]) -> Advantages:
        config = self.config
        return advantages_of(
            rewards,
            weights=self._weights(),
            group=config.num_return_sequences,
            scale=config.scale_rewards,
            aggregation=config.multi_objective_aggregation,
        )

    def _weights(self) -> Float[np.ndarray, " F"]:
        weights = self.config.reward_weights
        return np.asarray([1.0] * len(self.rewards.names) if weights is None else weights, np.float32)

    def _arrays(self, completions: Sequence[Completion], found: Advantages, sampler: Sampler) -> tuple[Arrays, Ratios]:
        """Returns what a step is given, and how far engine and model are apart."""
        step_rows = completion_step_rows(
            completions, found.advantages.tolist(), mask_truncated=self.config.mask_truncated_completions
        )
        arrays = self.arrange(step_rows)
        engine_logps = _of_next(arrays.pop(_ENGINE_LOGPS), fill=0.0)
        if sampler.logps is None:
            return arrays, {}
        old = np.asarray(sampler.logps(arrays))
        arrays["old_logps"] = old
        if not self.corrects:
            return arrays, {}
        counted = _of_next(arrays["labels"], fill=IGNORE_INDEX) != IGNORE_INDEX
        weights = corrections_of(old, engine_logps, counted, arrays["segment_ids"], self.config)
        arrays["corrections"] = weights
        return arrays, correction_metrics(old, engine_logps, counted, weights)

    def _reward_metrics(self, rewards: Float[np.ndarray, "R F"], found: Advantages) -> Ratios:
        """Under TRL's names."""
        metrics: Ratios = {}
        for name, of_function in zip(self.rewards.names, rewards.T, strict=True):
            said = of_function[~np.isnan(of_function)]
            metrics[f"rewards/{name}/mean"] = (float(said.sum()), float(len(said)))
            metrics[f"rewards/{name}/std"] = (mean_and_deviation(of_function)[1], 1.0)
        total = found.rewards[~np.isnan(found.rewards)]
        metrics |= {
            "reward": (float(total.sum()), float(len(total))),
            "reward_std": (mean_and_deviation(found.rewards)[1], 1.0),
            "frac_reward_zero_std": (float(found.without_spread.sum()), float(len(found.without_spread))),
        }
        return metrics

    def _shown(
        self, completions: Sequence[Completion], rewards: Float[np.ndarray, "R F"], found: Advantages, log: RewardLog
    ) -> list[Sampled]:
        count = self.config.num_completions_to_print
        if not self.config.log_completions:
            return []
        return [
            Sampled(
                prompt=self.tokenizer.decode(list(one.prompt_ids)),
                completion=self.tokenizer.decode(list(one.token_ids)),
                rewards=dict(zip(self.rewards.names, [None if np.isnan(r) else float(r) for r in row], strict=True)),
                advantage=float(advantage),
                extras={name: str(values[number]) for name, values in log.extras.items() if number < len(values)},
            )
            for number, (one, row, advantage) in enumerate(
                zip(completions[:count], rewards[:count], found.advantages[:count], strict=True)
            )
        ]


def _of_next(values: np.ndarray, *, fill: float) -> np.ndarray:
    """Returns what the position after each position holds; `fill` at the end of a bin."""
    return np.concatenate([values[..., 1:], np.full_like(values[..., :1], fill)], axis=-1)
