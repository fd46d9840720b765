"""How metrics are joined: as their type says, whatever their name."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_trainers.step.metrics import Maximum, MetricWindow, Minimum, add_ratios, loss_ratios, means


def window(*records) -> MetricWindow:
    joined = MetricWindow()
    for record in records:
        joined.add(record)
    return joined


def test_a_mean_is_a_mean_whatever_it_is_called():
    """(3, 3) then 4 under a name with `max` in it is 10 / 3, not 3."""
    found = window({"max_score": (6.0, 2.0), "a:b": (1.0, 1.0), "a": (5.0, 1.0)}, {"max_score": (4.0, 1.0)}).means()
    assert found == {"max_score": pytest.approx(10 / 3), "a:b": 1.0, "a": 5.0}


def test_extremes_are_kept_and_what_was_not_measured_does_not_count():
    records = [{"low": Minimum(v, p), "high": Maximum(v, p)} for v, p in ((3.0, 1.0), (-9.0, 0.0), (4.0, 1.0))]
    assert window(*records).means() == {"low": 3.0, "high": 4.0}
    nothing = {"low": Minimum(jnp.float32(7), jnp.float32(0)), "high": Maximum(-7.0, 0.0)}
    assert means(nothing) == {"low": 0.0, "high": 0.0}


def test_terms_of_a_loss_are_means_of_their_own_that_are_added():
    sums = {"pairs": jnp.float32(6), "sft": jnp.float32(5)}
    weights = {"pairs": jnp.int32(3), "sft": jnp.int32(10)}
    one = loss_ratios(sums, weights)
    assert means(one) == {"loss": 2.5}
    assert means(add_ratios(one, one)) == {"loss": 2.5}
    assert means(loss_ratios({"loss": jnp.float32(6)}, {"loss": jnp.int32(4)})) == {"loss": 1.5}


def test_a_window_goes_through_json_as_it_is():
    record = {
        "loss": {"pairs": (6.0, 3.0), "sft": (5.0, 10.0)},
        "low": Minimum(3.0, 1.0),
        "high": Maximum(3.0, 1.0),
        "mean": (np.float32(1.0), 2.0),
    }
    before = window(record)
    again = MetricWindow(json.loads(json.dumps(before.state())))
    for one in (before, again):
        one.add({"low": Minimum(2.0, 1.0), "high": Maximum(9.0, 1.0), "mean": (1.0, 2.0)})
    assert again.means() == before.means() == {"loss": 2.5, "low": 2.0, "high": 9.0, "mean": 0.5}
