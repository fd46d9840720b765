"""Loss and gradients of a trainer's first step, however its rows are split; also run as a program on several devices.

`python first_step.py DEVICES OUT.npz JOBS` computes every job of a JSON list `[[trainer, {config fields}], …]` and
stores the arrays of job n under `n/…`. One micro-batch of eight rows; ids below 96, from random pre-tokenized rows.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax

VOCABULARY, ROWS = 96, 8
TRAINERS = ("SFT", "DPO", "ORPO", "KTO", "CPO", "BCO", "Reward", "GRPO")
UNPAIRED = ("KTO", "BCO")
COUPLED = ("DPO-aot",)
"""Further losses that compare the rows of a step with each other: trainer and loss type."""

Found = dict[str, np.ndarray]


def first_step(kind: str, **fields: Any) -> Found:
    """`loss` (and `aux_loss`), and under every parameter's path its gradient, of the first step of a small model's run.

    Args:
        kind: a trainer, such as `SFT`, or one with a loss type, such as `DPO-aot`.
        fields: of its config, on top of a small run's; `lora` as the mapping of its own fields. And `layers`: what the
            model is made of, a kind of `small_models`.
    """
    import easydel_trainers
    from easydel_models import LoraConfig
    from easydel_models.mesh.sharding import to_host
    from easydel_models.parameters import flattened, split_params
    from easydel_trainers.step.metrics import means
    from easydel_trainers.step_source import StepStart

    layers = fields.pop("layers", "dense")
    if "lora" in fields:
        fields["lora"] = LoraConfig(**fields["lora"])
    name, _, loss_type = kind.partition("-")
    make, config = (getattr(easydel_trainers, name + part) for part in ("Trainer", "Config"))
    compares = (
        {"reference_model": small_model(name, seed=1, layers=layers)} if name in ("DPO", "KTO", "BCO", "GRPO") else {}
    )
    sampled = {"reward_funcs": even_tokens, "engine": Prepared()} if name == "GRPO" else {}
    shared = {
        "total_batch_size": ROWS,
        "max_training_steps": 1,
        "shuffle_train_dataset": False,
        "clip_grad": None,
        "gradient_checkpointing": "none",
        "length_buckets": [16, 32, 64, 128],
        **({"loss_type": loss_type} if loss_type else {}),
        **(SAMPLED if sampled else {}),
    }
    with mock.patch("easydel_trainers.step.program.make_optimizer", return_value=gradients_kept()):
        trainer = make(
            small_model(name, seed=0, layers=layers),
            config(**shared | fields),
            processing_class=tokenizer(),
            train_dataset=rows_of(name),
            **compares,
            **sampled,
        )
        state = trainer.program.initial_state()
        prepared = next(trainer.source.steps(Beginning(state.params), StepStart()))
        state, result = trainer.program.train_step(state, trainer.source.annotate(prepared.arrays))
    assert split_params(trainer.model)[1].keys() >= state.params.keys()
    metrics = means(result.ratios)
    losses = {name: np.float64(metrics[name]) for name in ("loss", "aux_loss") if name in metrics}
    return losses | {path: to_host(leaf) for path, leaf in flattened(state.opt_state).items()}


#: of GRPO, on top of what a small run has
SAMPLED = {
    "num_return_sequences": 4,
    "num_iterations": 2,
    "max_prompt_length": 8,
    "max_completion_length": 6,
    "beta": 0.1,
    "importance_sampling_correction": False,
}


class Prepared:
    """An engine whose completions depend on prompts alone."""

    def update(self, model: Any) -> None:
        """They do not depend on the model."""

    def generate(self, prompts: Any, options: Any) -> Any:
        """Between two and six tokens after each prompt."""
        from easydel_models.generation.options import GenerateResult

        ids = [
            [1 + (7 * prompt[-1] + 11 * k + 5 * t) % (VOCABULARY - 1) for t in range(2 + (prompt[-1] + k) % 5)]
            for prompt in prompts
            for k in range(options.num_return_sequences)
        ]
        zeros = [[0.0] * len(tokens) for tokens in ids]
        return GenerateResult(token_ids=ids, logprobs=zeros, finish_reasons=["length"] * len(ids))


def even_tokens(completion_ids: list[list[int]]) -> list[float]:
    """The share of even ids."""
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def gradients_kept() -> optax.GradientTransformation:
    """An optimizer that moves nothing and whose state is the last gradient."""
    zeros = functools.partial(jax.tree.map, jax.numpy.zeros_like)
    return optax.GradientTransformation(zeros, lambda grads, state, params: (zeros(grads), grads))


def small_model(name: str, *, seed: int, layers: str = "dense") -> Any:
    """A model that every axis of a small mesh can cut."""
    from easydel_models import CausalLM, SequenceClassifier
    from small_models import small_config

    config = small_config(layers, num_labels=1 if name == "Reward" else None)
    return (SequenceClassifier if name == "Reward" else CausalLM).from_config(config, seed=seed, dtype="float32")


def rows_of(name: str) -> list[dict[str, Any]]:
    """Pre-tokenized rows of uneven lengths."""
    draw = np.random.default_rng(7)

    def ids() -> list[int]:
        return draw.integers(1, VOCABULARY, draw.integers(2, 6)).tolist()

    if name == "SFT":
        return [{"input_ids": ids() + ids()} for _ in range(ROWS)]
    if name in UNPAIRED:
        return [{"prompt_ids": ids(), "completion_ids": ids(), "label": n % 3 != 0} for n in range(ROWS)]
    if name == "GRPO":
        return [{"prompt_ids": ids()} for _ in range(ROWS)]
    return [{"prompt_ids": ids(), "chosen_ids": ids(), "rejected_ids": ids()} for _ in range(ROWS)]


@functools.cache
def tokenizer() -> Any:
    """Any tokenizer: rows are tokenized already."""
    from easydata_tokenize import load_tokenizer

    return load_tokenizer(Path(__file__).parent / "golden" / "tokenizer")


class Beginning:
    """As much of a run as a trainer needs to prepare its first step."""

    step, last_step, compile_seconds = 0, 1, 0.0

    def __init__(self, params: Any):
        self.params = params


def main() -> None:
    devices, out, jobs = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", int(devices))
    jax.config.update("jax_disable_most_optimizations", True)
    found = [first_step(kind, **fields) for kind, fields in json.loads(jobs)]
    np.savez(out, **{f"{number}/{name}": array for number, job in enumerate(found) for name, array in job.items()})


if __name__ == "__main__":
    main()
