"""GRPO as TRL computed it: losses of fixed completions, advantages, and the steps of two runs.

`golden/README.md` says how the numbers were made. The single losses go through our objective and its gradient. The runs
are replayed as a whole: an engine that writes TRL's completions, its reward functions, our trainer.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.generation.options import GenerateResult
from easydel_models.parameters import split_params
from easydel_trainers import GRPOConfig, GRPOTrainer
from easydel_trainers.algorithms.grpo.advantages import advantages_of, mean_and_deviation
from easydel_trainers.algorithms.grpo.objective import GRPOObjective
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.step.metrics import means
from easydel_trainers.step.step import TrainState, make_train_step
from thoroughness import RECORDED_STEPS, REPLAYED_STEPS, thorough_but

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.usefixtures("lightly_compiled")
TOKENIZER = load_tokenizer(GOLDEN / "tokenizer")
CASES = {case["name"]: case for case in json.loads((GOLDEN / "grpo" / "loss_cases.json").read_text())}
ADVANTAGES = json.loads((GOLDEN / "grpo" / "advantages.json").read_text())
OPTIONS = ("loss_type", "beta", "epsilon", "epsilon_high", "delta", "importance_sampling_level")


def inputs(name: str) -> dict:
    variants = json.loads((GOLDEN / "grpo" / "inputs.json").read_text())["inputs"]
    base, variant = variants["base"], variants[name]
    merged = {**base, **variant.get("same_as_base_except", {})}
    return {key: value for key, value in merged.items() if key not in variant.get("removed", ())}


def load(folder: str = "models/policy"):
    return AutoEasyDeLModelForCausalLM.from_pretrained(GOLDEN / folder, dtype="float32")


def real(ids: list[int], mask: list[int]) -> list[int]:
    return [token for token, there in zip(ids, mask, strict=True) if there]


def step_rows_of(batch: dict) -> list[StepRow]:
    """The rows of a padded batch; a completion that TRL masked as a whole has only labels of -100."""
    base, step_rows = inputs("base"), []
    for row, advantage in enumerate(batch["advantages"]):
        prompt = real(batch["prompt_ids"][row], batch["prompt_mask"][row])
        there = batch["completion_mask"][row]
        answer = real(batch["completion_ids"][row], there if any(there) else base["completion_mask"][row])
        sequence = {
            "input_ids": prompt + answer,
            "labels": [-100] * len(prompt) + (answer if any(there) else [-100] * len(answer)),
        }
        for ours, theirs in (("old_logps", "old_per_token_logps"), ("reference_logps", "ref_per_token_logps")):
            if theirs in batch:
                # At the positions that predict: one before the completion's tokens.
                known = batch[theirs][row][: len(answer)]
                sequence[ours] = np.asarray([0.0] * (len(prompt) - 1) + known + [0.0], np.float32)
        step_rows.append(StepRow(sequences=(sequence,), values={"advantages": advantage}, prompt=len(prompt) - 1))
    return step_rows


def config_of(case: dict, **more) -> GRPOConfig:
    return GRPOConfig(
        num_return_sequences=4,
        max_completion_length=case["config"]["max_completion_length"],
        total_batch_size=8,
        gradient_checkpointing="none",
        **{key: value for key, value in case["config"].items() if key in OPTIONS},
        **more,
    )


def arranged(case: dict, *, micro_batches: int) -> dict:
    layout = SequenceLayout(
        micro_batches=micro_batches,
        rows=8 // micro_batches,
        sequences=1,
        padding_free=True,
        share_prompts=True,
        to_step_rows=lambda rows: rows,
    )
    return layout.arrange_step_rows(step_rows_of(inputs(case["inputs"])))


@pytest.fixture(scope="module")
def policy():
    """Parameters, what the model says of a batch, and how gradients of that become those of parameters."""
    structure, params = split_params(load())

    def scores(params, batch):
        objective = GRPOObjective(structure=structure, config=GRPOConfig(gradient_checkpointing="none"))
        return objective.scores(params, batch)

    def pulled_back(params, batch, by_logps):
        (grads,) = jax.vjp(lambda params: scores(params, batch)["logps"], params)[1](by_logps)
        return optax.tree.norm(grads)

    return structure, params, jax.jit(scores), jax.jit(pulled_back)


@pytest.mark.parametrize("name", CASES)
def test_losses(name, policy):
    case = CASES[name]
    structure, params, scores, pulled_back = policy
    batch = jax.tree.map(lambda array: array[0], arranged(case, micro_batches=1))
    objective = GRPOObjective(structure=structure, config=config_of(case))
    found = scores(params, batch)
    weight = objective.weights(batch)["loss"]

    def loss(logps):
        terms, metrics, _ = objective.score_loss({**found, "logps": logps}, batch["rows"], (), training=True)
        return terms["loss"] / weight, metrics

    (value, metrics), by_logps = jax.value_and_grad(loss, has_aux=True)(found["logps"])
    assert float(value) == pytest.approx(case["loss"], rel=1e-4)
    assert float(pulled_back(params, batch, by_logps)) == pytest.approx(case["grad_norm"], rel=1e-3)
    measured = means(metrics)
    for metric, expected in case["metrics"].items():
        assert measured[metric] == pytest.approx(expected, rel=1e-4, abs=1e-6), metric


def test_a_loss_over_four_micro_batches(policy):
    case = CASES["dapo_token_beta0.04"]
    structure, params, *_ = policy
    objective = GRPOObjective(structure=structure, config=config_of(case, gradient_accumulation_steps=4))
    step = make_train_step(objective, optax.sgd(0.0), optax.constant_schedule(0.0))
    state = TrainState(jax.tree.map(jnp.copy, params), optax.sgd(0.0).init(params), jnp.int32(0))
    _, result = step(state, jax.device_put(arranged(case, micro_batches=4)))
    assert means(jax.device_get(result.ratios))["loss"] == pytest.approx(case["loss"], rel=1e-4)
    assert float(result.grad_norm) == pytest.approx(case["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("number", range(len(ADVANTAGES["cases"])))
def test_advantages(number):
    case = ADVANTAGES["cases"][number]
    matrix = ADVANTAGES["reward_matrices"][case["rewards"]]
    rewards = np.asarray([[math.nan if value is None else value for value in row] for row in matrix], np.float32)
    weights = np.asarray(case["reward_weights"] or [1.0] * rewards.shape[1], np.float32)
    found = advantages_of(
        rewards,
        weights=weights,
        group=case["num_generations"],
        scale=case["scale_rewards"],
        aggregation=case["multi_objective_aggregation"],
    )
    # To the last digit of a 32-bit number but one: sums of four numbers depend on their order.
    np.testing.assert_allclose(found.advantages, case["advantages"], rtol=2e-6, atol=2e-7)
    metrics = case["metrics"]
    mean, deviation = mean_and_deviation(found.rewards)
    assert mean == pytest.approx(metrics["reward"], rel=1e-6)
    assert deviation == pytest.approx(metrics["reward_std"], rel=1e-6)
    assert found.without_spread.mean() == pytest.approx(metrics["frac_reward_zero_std"])
    for function in range(rewards.shape[1]):
        assert mean_and_deviation(rewards[:, function]) == pytest.approx(
            (metrics[f"rewards/reward_{function}/mean"], metrics[f"rewards/reward_{function}/std"]), rel=1e-6
        )


class Replayed:
    """An engine that writes what TRL's run was given, whatever it is asked."""

    def __init__(self, batches: list[dict]):
        self._batches = iter(batches)

    def update(self, model) -> None:
        """Its completions do not depend on the model."""

    def generate(self, prompts, options) -> GenerateResult:
        batch = next(self._batches)
        of_prompt: dict[tuple[int, ...], list[list[int]]] = {}
        # TRL has shuffled the completions of a step by the time it trains on them.
        for row in range(len(batch["prompt_ids"])):
            prompt = real(batch["prompt_ids"][row], batch["prompt_mask"][row])
            answer = real(batch["completion_ids"][row], batch["completion_mask"][row])
            of_prompt.setdefault(tuple(prompt), []).append(answer)
        ids = [answer for prompt in prompts for answer in of_prompt[tuple(prompt)]]
        assert len(ids) == len(prompts) * options.num_return_sequences
        reasons = ["stop" if tokens[-1] in options.eos_token_ids else "length" for tokens in ids]
        return GenerateResult(token_ids=ids, logprobs=[[0.0] * len(t) for t in ids], finish_reasons=reasons)


def by_length(completion_ids):
    return [len(ids) / 10 for ids in completion_ids]


def even_tokens(completion_ids, **columns):
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


@pytest.mark.parametrize(
    ("name", "micro_batches"),
    thorough_but([("grpo_dapo", 1), ("grpo_two_iterations", 2)], {("grpo_two_iterations", 2)}),
)
def test_runs(name, micro_batches):
    trajectory = json.loads((GOLDEN / "grpo" / f"trajectory_{name}.json").read_text())
    theirs, steps = trajectory["config"], trajectory["steps"]
    fresh = [step["micro_batches"][0] for step in steps[:: theirs["num_iterations"]]]
    trainer = GRPOTrainer(
        model=load(trajectory["model"]),
        reference_model=GOLDEN / trajectory["reference_model"] if theirs["beta"] else None,
        processing_class=TOKENIZER,
        train_dataset=str(GOLDEN / trajectory["rows"]),
        reward_funcs=[by_length, even_tokens],
        engine=Replayed(fresh),
        arguments=GRPOConfig(
            num_return_sequences=4,
            max_completion_length=theirs["max_completion_length"],
            total_batch_size=8,
            gradient_accumulation_steps=micro_batches,
            max_training_steps=REPLAYED_STEPS,
            num_iterations=theirs["num_iterations"],
            epsilon=theirs["epsilon"],
            beta=theirs["beta"],
            loss_type=theirs["loss_type"],
            reward_weights=theirs["reward_weights"],
            learning_rate=theirs["learning_rate"],
            scheduler="constant",
            clip_grad=None,
            importance_sampling_correction=False,
            shuffle_train_dataset=False,
            gradient_checkpointing="none",
            log_steps=1,
            progress_bar=False,
        ),
    )
    history = trainer.train().history
    assert len(steps) == RECORDED_STEPS
    assert len(history) == REPLAYED_STEPS
    for ours, expected in zip(history, steps[:REPLAYED_STEPS], strict=True):
        # On policy the value of the loss is a sum that nearly cancels.
        assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-4, abs=2e-6)
        assert ours["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        for metric, value in expected.items():
            if metric in ours and metric not in ("loss", "grad_norm", "num_tokens"):
                assert ours[metric] == pytest.approx(value, rel=1e-3, abs=1e-6), (ours["step"], metric)
        missing = {metric for metric in expected if metric not in ours} - {"micro_batches"}
        assert not missing
