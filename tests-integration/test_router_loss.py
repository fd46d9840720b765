"""The loss of routers in training: transformers' definition over the whole step, however it is split."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.experts.routing import load_balancing_loss, whole_load
from easydel_trainers import ConfigError
from first_step import first_step, rows_of, small_model
from split_checks import assert_equal_steps
from thoroughness import thorough_but

COEFFICIENT = 0.5

pytestmark = pytest.mark.usefixtures("lightly_compiled")


def test_it_is_added_to_the_loss_of_the_step():
    plain = first_step("SFT", layers="experts")
    with_routers = first_step("SFT", layers="experts", router_aux_loss_coef=COEFFICIENT)
    rows = [row["input_ids"] for row in rows_of("SFT")]
    ids, segments = (np.zeros((len(rows), max(map(len, rows))), np.int32) for _ in range(2))
    for line, row in enumerate(rows):
        ids[line, : len(row)], segments[line, : len(row)] = row, 1
    decoded = small_model("SFT", seed=0, layers="experts").decoded(jnp.asarray(ids), segment_ids=jnp.asarray(segments))
    expected = float(load_balancing_loss(whole_load(decoded.routings)))
    assert with_routers["loss"] - plain["loss"] == pytest.approx(COEFFICIENT * expected, rel=1e-4)
    assert with_routers["aux_loss"] == pytest.approx(expected, rel=1e-4)
    assert "aux_loss" not in plain
    router = "layers.1.router"
    assert np.abs(with_routers[router] - plain[router]).max() > 1e-3


def test_a_model_without_experts_is_told():
    with pytest.raises(ConfigError, match="this model has no experts"):
        first_step("SFT", router_aux_loss_coef=COEFFICIENT)


@pytest.mark.parametrize("kind", thorough_but(["SFT", "DPO-aot", "Reward"], {"SFT"}))
def test_the_split_of_a_step_does_not_matter(kind):
    how = {"layers": "experts", "router_aux_loss_coef": COEFFICIENT}
    assert_equal_steps(first_step(kind, **how, gradient_accumulation_steps=4), first_step(kind, **how), what=kind)
