"""Learning rates against values worked out by hand, as Hugging Face's schedulers give them."""

from __future__ import annotations

import math

import pytest
from easydel_trainers.config import TrainerConfig
from easydel_trainers.errors import ConfigError
from easydel_trainers.step.schedule import learning_rate_schedule


def rates(total, **options):
    schedule = learning_rate_schedule(TrainerConfig(learning_rate=2.0, **options), total_steps=total)
    return [pytest.approx(float(schedule(k)), abs=1e-6) for k in range(total)]


def test_linear_falls_to_zero_one_step_after_the_last():
    assert rates(4) == [2.0, 1.5, 1.0, 0.5]


def test_warmup_starts_at_zero_and_reaches_the_peak():
    assert rates(6, warmup_steps=2) == [0.0, 1.0, 2.0, 1.5, 1.0, 0.5]


def test_constant_with_warmup():
    assert rates(4, warmup_steps=2, scheduler="constant") == [0.0, 1.0, 2.0, 2.0]


def test_cosine_is_half_way_in_the_middle():
    assert rates(4, scheduler="cosine") == [2.0, 1 + math.cos(math.pi / 4), 1.0, 1 - math.cos(math.pi / 4)]


def test_learning_rate_end_is_the_floor():
    assert rates(4, learning_rate_end=1.0) == [2.0, 1.75, 1.5, 1.25]
    assert rates(2, scheduler="cosine", learning_rate_end=1.0) == [2.0, 1.5]


def test_unknown_total_is_refused_where_it_matters():
    with pytest.raises(ConfigError, match="max_training_steps"):
        learning_rate_schedule(TrainerConfig(), total_steps=None)
    learning_rate_schedule(TrainerConfig(scheduler="constant"), total_steps=None)


def test_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(ConfigError, match="warmup_steps"):
        learning_rate_schedule(TrainerConfig(warmup_steps=5), total_steps=5)
