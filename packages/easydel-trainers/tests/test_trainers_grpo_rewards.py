"""Reward functions: what they are given, and what happens when they do not do what they should."""

from __future__ import annotations

import asyncio
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from easydel_trainers import ConfigError, RewardError
from easydel_trainers.algorithms.grpo.rewards import RewardFunctions, RewardInputs, RewardLog, TrainerState
from easydel_trainers.step.metrics import MetricWindow


def reward_inputs() -> RewardInputs:
    return RewardInputs(
        prompts=["1+1", "1+1", "2+2", "2+2"],
        completions=["2", "3", "4", "five"],
        completion_ids=[[2], [3], [4], [5, 6]],
        columns={"answer": [2, 2, 4, 4], "source": ["a", "a", "b", "b"]},
        state=TrainerState(global_step=7, max_steps=9),
    )


def score(*functions, timeout: float | None = 5.0, log: RewardLog | None = None) -> np.ndarray:
    return RewardFunctions(functions, timeout=timeout).score(reward_inputs(), log or RewardLog())


def right(completions, answer, **columns):
    return [float(given == str(wanted)) for given, wanted in zip(completions, answer, strict=True)]


def test_a_function_gets_every_column_or_those_it_names():
    seen = {}

    def everything(**columns):
        seen.update(columns)
        return [0] * 4

    def only_ids(completion_ids):
        return [len(ids) for ids in completion_ids]

    rewards = score(everything, right, only_ids)
    assert rewards.tolist() == [[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 0, 2]]
    assert seen["source"] == ["a", "a", "b", "b"]
    assert seen["prompts"] == ["1+1", "1+1", "2+2", "2+2"]
    assert seen["trainer_state"].global_step == 7


def test_none_and_nan_say_nothing_and_all_kinds_of_numbers_count():
    def mixed(completions):
        return [None, float("nan"), np.float32(1.5), jnp.int32(2)]

    rewards = score(mixed, lambda completions: np.asarray([True, False, True, True]))
    assert np.isnan(rewards[:2, 0]).all()
    assert rewards[2:, 0].tolist() == [1.5, 2.0]
    assert rewards[:, 1].tolist() == [1, 0, 1, 1]


def test_coroutine_functions_run_at_once():
    together = threading.Barrier(1)

    async def slow(completions):
        await asyncio.sleep(0.3)
        together.wait()
        return [1.0] * len(completions)

    began = time.perf_counter()
    rewards = score(slow, slow, slow, right)
    assert rewards[:, :3].min() == 1.0
    assert rewards[:, 3].tolist() == [1, 0, 1, 0]
    assert time.perf_counter() - began < 0.85


def test_names_are_distinct():
    def one(completions):
        return [0] * 4

    class Judge:
        def __call__(self, completions):
            return [0] * 4

    assert RewardFunctions([one, one, Judge()], timeout=None).names == ("one", "one_2", "Judge")


def test_a_function_that_raises_names_itself_and_the_completion():
    def strict(completions):
        return [int(text) for text in completions]

    with pytest.raises(
        RewardError, match=r"`strict` raised ValueError.*completion 3 alone: 'five' to the prompt '2\+2'"
    ) as e:
        score(right, strict)
    assert e.value.row == 3
    assert isinstance(e.value.__cause__, ValueError)

    async def strict_too(completions):
        return [int(text) for text in completions]

    with pytest.raises(RewardError, match=r"`strict_too` raised ValueError.*completion 3 alone"):
        score(strict_too)


def test_a_function_that_raises_only_for_the_whole_list_says_so():
    def only_one(completions):
        (_only,) = completions
        return [1.0]

    with pytest.raises(RewardError, match=r"`only_one` raised ValueError.*No completion was found.*list of 4"):
        score(only_one)


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ([1.0, 2.0], "2 rewards for 4 completions"),
        ("good", "'good' \\(str\\)"),
        (1.0, "1.0 \\(float\\)"),
        (None, "None"),
        ([1.0, "good", 0.0, 0.0], "'good' \\(str\\) for completion 1"),
        ([1.0, float("inf"), 0.0, 0.0], "inf"),
        ([[1.0], [1.0], [1.0], [1.0]], "for completion 0"),
    ],
)
def test_what_is_no_reward_is_named(returned, named):
    def odd(completions):
        return returned

    with pytest.raises(RewardError, match=f"`odd` returned.*{named}"):
        score(odd)


def test_a_function_that_hangs_ends_the_run_with_its_name():
    released = threading.Event()

    def stuck(completions):
        released.wait(30)
        return [0.0] * 4

    async def stuck_too(completions):
        await asyncio.sleep(30)
        return [0.0] * 4

    async def blocked(completions):
        released.wait(30)
        return [0.0] * 4

    try:
        for function in (stuck, stuck_too, blocked):
            began = time.perf_counter()
            with pytest.raises(RewardError, match=f"`{function.__name__}` took longer than reward_timeout=0.2"):
                score(function, timeout=0.2)
            assert time.perf_counter() - began < 5
    finally:
        released.set()


def test_functions_may_log_numbers_and_columns():
    def talkative(completions, log_metric, log_extra):
        log_metric("digits", 3)
        log_metric("digits", 5)
        log_extra("parsed", [text.isdigit() for text in completions])
        return [0.0] * 4

    log = RewardLog()
    score(talkative, log=log)
    assert log.metrics == {"digits": (8.0, 2.0)}
    assert log.extras == {"parsed": [True, True, True, False]}


def test_coroutines_of_all_steps_run_in_one_event_loop():
    """A lock or a client belongs to the loop it was first used in."""
    seen, lock = [], None

    async def careful(completions):
        nonlocal lock
        lock = lock or asyncio.Lock()
        seen.append(asyncio.get_running_loop())
        async with lock:
            return [1.0] * len(completions)

    functions = RewardFunctions([careful, careful], timeout=5.0)
    for _ in range(3):
        assert functions.score(reward_inputs(), RewardLog()).min() == 1.0
    assert len(set(seen)) == 1
    assert len(seen) == 6


def test_without_a_time_limit_functions_run_in_the_callers_thread():
    def where(completions):
        seen.append(threading.current_thread())
        return [0.0] * len(completions)

    seen: list[threading.Thread] = []
    score(where, timeout=None)
    assert seen == [threading.current_thread()]


@pytest.mark.parametrize("options", [{"timeout": 5.0}, {"timeout": None, "threaded": True}])
def test_where_a_thread_is_needed_it_is_always_the_same(options):
    import sqlite3

    held: list[sqlite3.Connection] = []

    def counted(completions):
        if not held:
            held.append(sqlite3.connect(":memory:"))  # refuses every other thread
        return [float(held[0].execute("select 1").fetchone()[0])] * len(completions)

    functions = RewardFunctions([counted], **options)
    for _ in range(3):
        assert functions.score(reward_inputs(), RewardLog()).min() == 1.0


def test_an_error_in_a_thread_says_that_it_was_one():
    import signal

    def timed(completions):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"main thread.*reward_timeout=None"):
        score(timed)
    assert score(timed, timeout=None).tolist() == [[0.0]] * 4


def test_an_argument_that_no_row_has_is_told_before_anything_is_sampled():
    def misspelt(completions, answr):
        return [0.0] * len(completions)

    def fine(completions, answer, log_metric, later=None, **_):
        return [0.0] * len(completions)

    RewardFunctions([fine], timeout=None).require_columns({"answer"})
    with pytest.raises(ConfigError, match=r"misspelt.*`answr`.*answer, completion_ids"):
        RewardFunctions([fine, misspelt], timeout=None).require_columns({"answer"})


@pytest.mark.parametrize("name", ["reward", "loss", "step", "rewards/mine", "completions/mean_length", "kl", 3])
def test_a_metric_cannot_take_a_name_of_the_trainers_own(name):
    def loud(completions, log_metric):
        log_metric(name, 1.0)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match="log_metric"):
        score(loud)


def test_metrics_of_any_other_name_are_means():
    def loud(completions, log_metric):
        for value in (3.0, 3.0, np.float32(4.0)):
            log_metric("max:score", value)
        return [0.0] * len(completions)

    log = RewardLog()
    score(loud, log=log)
    window = MetricWindow()
    window.add(log.metrics)
    assert window.means() == {"max:score": pytest.approx(10 / 3)}
