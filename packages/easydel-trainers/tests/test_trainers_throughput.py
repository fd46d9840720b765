"""How fast a run says it goes, and the peak of memory that it reports."""

from __future__ import annotations

import copy
import subprocess
import sys
import time

import numpy as np
import pytest
from easydel_trainers import Callback, SFTConfig, SFTTrainer
from easydel_trainers.data.steps import PreparedStep
from easydel_trainers.run.loop import Hooks, Loop, RunState
from easydel_trainers.run.throughput import Throughput
from easydel_trainers.step.compiled import Compiled
from easydel_trainers.step.step import StepResult

REPORTS = "from easydel_trainers.run.resource_use import peak_memory_bytes; print(peak_memory_bytes())"
FILLED = 1_500_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands peaks down")
def test_a_peak_is_not_that_of_whoever_started_the_process():
    starts = f"import subprocess, sys; filled = b'x' * {FILLED}; subprocess.run([sys.executable, '-c', {REPORTS!r}])"
    done = subprocess.run([sys.executable, "-c", starts], check=True, capture_output=True, text=True)
    assert 50_000_000 < int(done.stdout) < FILLED


class Input:
    """What a step's input says of its size."""

    def __init__(self, tokens):
        self.tokens = self.held = self.padded_tokens = tokens
        self.attended = 0


def test_rates_are_those_of_the_steps_that_were_timed():
    throughput = Throughput(matmul_parameters=1, attention_dims=1, peak_flops_per_second=None)
    throughput.compiled(5.0)
    assert throughput.take() == {}  # every step compiled: nobody knows how fast this goes
    assert throughput.tokens_per_second is None
    throughput.finished_step(Input(100), seconds=2.0, waited=1.0)
    throughput.finished_step(Input(300), seconds=2.0, waited=0.0)
    rates = throughput.take()
    assert (rates["tokens_per_second"], rates["data_wait_share"]) == (100.0, 0.25)
    assert throughput.take() == {}
    assert (throughput.tokens_per_second, throughput.seconds_per_step, throughput.steps) == (100.0, 2.0, 2)


class Computed:
    """A gradient norm that is there so many seconds after someone begins to wait for it."""

    def __init__(self, seconds):
        self.seconds = seconds

    def is_ready(self):
        return False

    def block_until_ready(self):
        time.sleep(self.seconds)

    def __array__(self, dtype=None, copy=None):
        return np.float32(1)


def test_a_step_that_ran_while_the_next_one_was_compiled_is_not_timed():
    """On a CPU the compiler takes its time from the step in flight: of four steps here, the second to the third."""

    def take_step(state, batch):
        step = next(steps)
        if step == 3:
            train_step.compilations += 1
            time.sleep(0.1)
        return state, StepResult({"loss": (1.0, 1.0)}, Computed(0.2 if step == 2 else 0.02), np.float32(0))

    steps = iter((1, 2, 3, 4))
    train_step = Compiled(take_step)
    throughput = Throughput(matmul_parameters=1, attention_dims=1, peak_flops_per_second=None)
    hooks = Hooks(
        annotate=lambda batch: batch, on_result=lambda *_: None, is_logged=lambda _: False, on_record=lambda _: None
    )
    loop = Loop(RunState(state=None), train_step, hooks, throughput, last_step=None)
    fixed = {"arrays": {"input_ids": np.zeros((1, 1, 8))}, "held": 1, "padded_tokens": 1, "epoch": 0, "data_state": {}}
    prepared = (PreparedStep(**fixed, tokens=tokens) for tokens in (1, 10, 100, 1000))
    for number, _ in enumerate(loop.dispatched(prepared)):
        if number == 0:
            loop.settle()
            loop.resume_clock()
    assert throughput.steps == 2
    assert throughput.tokens_per_second * throughput.seconds_per_step * 2 == pytest.approx(1001)


def test_no_step_is_told_to_be_quicker_than_it_was(tiny_model, tokenizer, text_rows):
    """Steps that are logged late, and several at once, are as long as they were; those that compile have no rate."""

    class Slow(Callback):
        def on_step(self, run):
            time.sleep(0.05)

    config = SFTConfig(total_batch_size=4, max_length=32, max_training_steps=6, log_steps=1, length_buckets=[128])
    options = {"processing_class": tokenizer, "train_dataset": text_rows, "callbacks": [Slow()]}
    output = SFTTrainer(copy.deepcopy(tiny_model), config, **options).train()
    assert output.metrics["compilations"] == 1
    assert "tokens_per_second" not in output.history[0]
    total = np.diff([record["num_tokens"] for record in output.history]).sum()
    assert max(record.get("tokens_per_second", 0.0) for record in output.history) < 20 * total / 0.25
    assert 0 < output.metrics["train_tokens_per_second"] < 1.2 * total / 0.2


def test_a_run_in_which_every_step_compiled_tells_no_speed(tiny_model, tokenizer, text_rows):
    config = SFTConfig(total_batch_size=4, max_length=32, max_training_steps=1, length_buckets=[128])
    output = SFTTrainer(copy.deepcopy(tiny_model), config, processing_class=tokenizer, train_dataset=text_rows).train()
    assert "train_tokens_per_second" not in output.metrics
    assert "tokens/s" not in output.summary()
