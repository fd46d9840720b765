"""Losses of sequence scores, and the metrics that all of them show."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from easydel_models.lm_loss import IGNORE_INDEX
from easydel_models.parameters import join_params
from jaxtyping import Array, Float

from easydel_trainers.preference.scores import sequence_scores
from easydel_trainers.step.forward import training_pass
from easydel_trainers.step.metrics import Ratio, Ratios
from easydel_trainers.step.objective import Batch, Params, ScoredObjective, Scores
from easydel_trainers.step.router import router_part


@dataclass(frozen=True, kw_only=True)
class CausalObjective(ScoredObjective):
    """A loss of a causal language model's sequence scores. Abstract."""

    structure: Any
    config: Any

    @property
    def coupled(self) -> bool:
        """No row looks at another one."""
        return False

    @property
    @abstractmethod
    def sequences(self) -> int:
        """Sequences of a row."""

    @property
    def score_options(self) -> dict[str, Any]:
        """Further options of `sequence_scores`."""
        return {}

    def scores(self, params: Params, batch: Batch) -> Scores:
        """Sequence scores of one micro-batch, `[sequences, rows]` each."""
        model = join_params(self.structure, params)
        how = {
            **training_pass(self.config, batch),
            "router": lambda decoded: router_part(self.config, model, decoded, batch),
        }
        return sequence_scores(model, batch, sequences=self.sequences, **self.score_options, **how)


def label_count(batch: Batch, *, sequence: int) -> Float[Array, ""]:
    """Returns labels of all rows' sequences of one kind (0 = the first of each row) in a micro-batch."""
    rows = batch["rows"]["real"].shape[-1]
    kind = (batch["segment_ids"] - 1) // rows
    is_label = (batch["labels"] != IGNORE_INDEX) & (batch["segment_ids"] > 0) & (kind == sequence)
    return is_label.sum().astype(jnp.float32)


def pair_metrics(
    scores: Scores,
    rows: Scores,
    rewards: tuple[Float[Array, " R"], Float[Array, " R"]],
    logps: tuple[Float[Array, " R"], Float[Array, " R"]] | None = None,
) -> Ratios:
    """Returns metrics of pairs under TRL's names: over pairs, or over the completions' tokens.

    Args:
        scores: sequence scores `[2, R]`, chosen and rejected.
        rows: with `real` `[R]`.
        rewards: implicit rewards of the chosen and of the rejected completions; anything where there is no pair.
        logps: what is shown as log-probabilities; `None` = those of the whole completions.
    """
    real = rows["real"]
    pairs = real.sum()
    chosen, rejected = rewards
    chosen_logps, rejected_logps = scores["logps"] if logps is None else logps

    def over_pairs(values: Array) -> tuple[Array, Array]:
        return jnp.where(real > 0, values, 0.0).sum(), pairs

    return {
        "rewards/chosen": over_pairs(chosen),
        "rewards/rejected": over_pairs(rejected),
        "rewards/accuracies": over_pairs((chosen > rejected).astype(jnp.float32)),
        "rewards/margins": over_pairs(chosen - rejected),
        "logps/chosen": over_pairs(chosen_logps),
        "logps/rejected": over_pairs(rejected_logps),
        "logits/chosen": (scores["logits"][0].sum(), scores["lengths"][0].sum()),
        "logits/rejected": (scores["logits"][1].sum(), scores["lengths"][1].sum()),
        "mean_token_accuracy": (scores["correct"][0].sum(), scores["lengths"][0].sum()),
        "entropy": (scores["entropies"].sum(), scores["lengths"].sum()),
    }


DESIRABLE_SHARE = "desirable_share"


def unpaired_metrics(scores: Scores, rows: Scores, rewards: Float[Array, " R"]) -> Ratios:
    """Returns metrics of single completions under TRL's names: each over the rows, or tokens, of its class.

    Args:
        scores: sequence scores `[1, R]`.
        rows: with `real` and `label` `[R]` (1 = desirable).
        rewards: implicit rewards; anything where there is no row.
    """
    desirable = rows["real"] * rows["label"]
    classes = {"chosen": desirable, "rejected": rows["real"] - desirable}
    metrics: Ratios = {
        "entropy": (scores["entropies"].sum(), scores["lengths"].sum()),
        DESIRABLE_SHARE: (desirable.sum(), rows["real"].sum()),
    }
    margins: dict[str, Ratio] = {}
    for name, members in classes.items():
        reward = jnp.where(members > 0, rewards, 0.0).sum()
        metrics[f"rewards/{name}"] = (reward, members.sum())
        margins[name] = (reward if name == "chosen" else -reward, members.sum())
        metrics[f"logps/{name}"] = ((scores["logps"][0] * members).sum(), members.sum())
        metrics[f"logits/{name}"] = ((scores["logits"][0] * members).sum(), (scores["lengths"][0] * members).sum())
    return {**metrics, "rewards/margins": margins}
