"""What the training engine costs and gains on this machine, beside the compiled step itself.

    uv run --group demo python benchmarks/engine.py [--rows chats.jsonl --tokenizer FOLDER] [--only overhead resume …]

- `overhead`: seconds of a step in a whole run over those of the bare compiled program, run in turns.
- `resume`: from `train()` to the first batch of a run that stands at step 1,000,000, with and without loading arrays.
- `stall`: how long a checkpoint keeps the loop from its next step, in steps.
- `packing`: real tokens per second packed and padding-free, over those of padded batches.

Everything compares within one sitting; the machine's own load cancels as far as it can.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from easydata_mix import MixedShardedSource
from easydata_sources import MemoryShardedSource, ShardedDataSource, as_sharded_source
from easydata_tokenize import load_tokenizer
from easydel_models import AutoEasyDeLModelForCausalLM, CausalLM, DecoderConfig
from easydel_trainers import Callback, SFTConfig, SFTTrainer
from easydel_trainers.checkpoints.checkpointer import Checkpointer
from easydel_trainers.run.run import Run
from easydel_trainers.run.view import RunView
from easydel_trainers.step_source import StepStart

GOLDEN = Path(__file__).parents[1] / "tests-integration" / "golden"
FAR = 1_000_000
WARM_UP = 4


def main() -> None:
    options = parse()
    logging.disable(logging.WARNING)
    parts = {"overhead": overhead, "resume": resume, "stall": stall, "packing": packing}
    for name in options.only or parts:
        print(json.dumps({name: parts[name](options)}, indent=2), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="chat rows, for example a .jsonl file of `messages`; otherwise made-up lengths")
    parser.add_argument("--tokenizer", default=str(GOLDEN / "tokenizer"), help="folder of the tokenizer for --rows")
    parser.add_argument("--model", help="what to pack for, a folder or .gguf file; else a small one")
    parser.add_argument("--only", nargs="+", choices=("overhead", "resume", "stall", "packing"))
    parser.add_argument("--steps", type=int, default=40, help="steps of each measurement")
    parser.add_argument("--dim", type=int, default=256, help="width of the model; larger ones have slower steps")
    return parser.parse_args()


def overhead(options: argparse.Namespace) -> dict[str, Any]:
    """The loop, data, metrics and logs of a run against the same program on the same batches, in turns."""
    config = settings(max_training_steps=options.steps, shuffle_train_dataset=False, log_steps=10)
    rows = of_one_length(128, config.total_batch_size * options.steps)
    ratios, bare, whole = [], [], []
    trainer = make(options, rows, config)
    trainer.train()  # compiles
    for _ in range(5):
        whole.append(seconds_of_a_run(trainer))
        bare.append(seconds_of_the_program(trainer, options.steps))
        ratios.append(whole[-1] / bare[-1])
    return {
        "bare step, ms": round(1e3 * statistics.median(bare), 2),
        "step of a run, ms": round(1e3 * statistics.median(whole), 2),
        "overhead, %": round(100 * (statistics.median(ratios) - 1), 2),
        "overhead in each repetition, %": [round(100 * (ratio - 1), 1) for ratio in ratios],
    }


def seconds_of_a_run(trainer: SFTTrainer) -> float:
    clock = Clock()
    trainer.callbacks = (clock,)
    trainer.train()
    return (clock.times[-1] - clock.times[WARM_UP]) / (len(clock.times) - 1 - WARM_UP)


def seconds_of_the_program(trainer: SFTTrainer, steps: int) -> float:
    with ExitStack() as resources:
        run = Run(trainer.training, resources)
        batches = [step.arrays for step in itertools.islice(trainer.source.steps(run.view, StepStart()), steps)]
        state = jax.tree.map(jax.numpy.copy, run.state.state)
        state, result = trainer.program.train_step(state, batches[0])
        jax.block_until_ready(result)
        began = time.perf_counter()
        for batch in batches[1:]:
            state, result = trainer.program.train_step(state, batch)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / (steps - 1)


def resume(options: argparse.Namespace) -> dict[str, Any]:
    """A checkpoint of step 1,000,000 is written as a run would have left it, and gone on from."""
    batch, found = 8, {}
    rows = of_one_length(32, 1) * (batch * FAR + 4096)  # eight million times the same row: only positions matter
    halves = {"a": MemoryShardedSource(rows[: len(rows) // 2]), "b": MemoryShardedSource(rows[len(rows) // 2 :])}
    sources = {"one source": MemoryShardedSource(rows), "a mixture of two": MixedShardedSource(halves)}
    for name, source in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            config = settings(total_batch_size=batch, max_training_steps=FAR + 1, save_directory=folder)
            leave_checkpoint(make(options, source, config), batch * FAR)
            found[name] = time_resume(make(options, source, config), folder)
    return found


def leave_checkpoint(trainer: SFTTrainer, row: int) -> None:
    """What a run that stands before row number `row` saves."""
    with ExitStack() as resources:
        run = Run(trainer.training, resources)
        rows = trainer.data.in_order(trainer.data.training_transform())
        state = rows.state()
        limited = rows._source.shuffle(seed=rows._shuffle_seed, epoch=0).limit(len(rows._source)).rows()
        limited.skip(row)
        state["rows"] = {**state["rows"], "source": limited.state(), "consumed": 0}
        run.state.step, run.state.batch, run.state.data_state = FAR, FAR, state
        run.state.state = run.state.state._replace(step=jax.numpy.int32(FAR))
        run.save()
        run.checkpoints.wait()


def time_resume(trainer: SFTTrainer, folder: str) -> dict[str, float]:
    with ExitStack() as resources:
        began = time.perf_counter()
        run = Run(trainer.training, resources)
        next(iter(run.steps))
        whole = time.perf_counter() - began
        assert run.state.step == FAR
    with Checkpointer(folder, keep=2) as checkpointer:
        like = trainer.program.initial_state()
        began = time.perf_counter()
        checkpointer.restore(like, step=FAR)
        loading = time.perf_counter() - began
    return {
        "to the first batch, s": round(whole, 2),
        "of it loading arrays, s": round(loading, 2),
        "beyond loading, s": round(whole - loading, 2),
    }


def stall(options: argparse.Namespace) -> dict[str, Any]:
    """Two runs that differ in saving alone, in turns; and how long each call of `save` kept the loop."""
    every, calls, slower = 10, [], []
    rows = of_one_length(128, 8 * options.steps)
    original = Checkpointer.save

    def timed(*arguments: Any, **named: Any) -> None:
        began = time.perf_counter()
        original(*arguments, **named)
        calls.append(time.perf_counter() - began)

    Checkpointer.save = timed  # type: ignore[method-assign]
    plain = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            config = settings(max_training_steps=options.steps, save_directory=folder)
            plain.append(seconds_of_a_run(make(options, rows, config)))
        with tempfile.TemporaryDirectory() as folder:
            config = settings(max_training_steps=options.steps, save_directory=folder, save_steps=every)
            slower.append((seconds_of_a_run(make(options, rows, config)) - plain[-1]) * every)
    Checkpointer.save = original  # type: ignore[method-assign]
    step = statistics.median(plain)
    return {
        "step, ms": round(1e3 * step, 1),
        "a save keeps the loop, ms": round(1e3 * statistics.median(calls), 1),
        "a save keeps the loop, % of a step": round(100 * statistics.median(calls) / step, 1),
        "a save slows a run by, % of a step": round(100 * statistics.median(slower) / step, 1),
    }


def packing(options: argparse.Namespace) -> dict[str, Any]:
    """As many rows padded, or laid end to end, as there are full lines of packed rows."""
    length, batch, steps = 1024, 4 if options.model else 8, max(2, options.steps // 10)
    rows = as_sharded_source(options.rows) if options.rows else of_chat_lengths(batch * steps * 12, length)
    kinds = {
        "padded": {"padding_free": False},
        "padding-free": {},
        "packed": {"packing": True},
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    fill: dict[str, float] = {}
    trainers = {
        name: make(options, rows, settings(max_length=length, total_batch_size=batch, max_training_steps=steps, **kind))
        for name, kind in kinds.items()
    }
    for repetition in range(3):
        for name, trainer in trainers.items():
            output = trainer.train()
            if repetition:  # the first one compiles
                speeds[name].append(output.metrics["train_tokens_per_second"])
            positions = sum(record.get("padded_tokens_per_second", 0) for record in output.history)
            fill[name] = sum(record.get("tokens_per_second", 0) for record in output.history) / positions
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "rows": options.rows or "made up: log-normal lengths with a median of 196 tokens",
        "real tokens/s": {name: round(speed) for name, speed in medians.items()},
        "positions filled, %": {name: round(100 * share) for name, share in fill.items()},
        "gain over padded": {name: round(speed / medians["padded"], 2) for name, speed in medians.items()},
    }


class Clock(Callback):
    """Notes when steps were handed out; behind the first ones and at the end, when all of them were done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, run: RunView) -> None:
        if len(self.times) == WARM_UP:
            run._loop.settle()  # those in flight would else be counted among the next ones
        self.times.append(time.perf_counter())

    def on_end(self, run: RunView) -> None:
        run._loop.settle()
        self.times[-1] = time.perf_counter()


def settings(**options: Any) -> SFTConfig:
    shared = {"max_length": 128, "total_batch_size": 8, "scheduler": "constant", "progress_bar": False, "log_steps": 1}
    return SFTConfig(**(shared | options))


def make(options: argparse.Namespace, rows: Any, config: SFTConfig) -> SFTTrainer:
    tokenizer = load_tokenizer(options.model or options.tokenizer)
    made = options.model or model(options.dim, len(tokenizer) if options.rows else 4096)
    return SFTTrainer(made, config, processing_class=tokenizer, train_dataset=rows)


def model(dim: int, vocabulary: int) -> CausalLM:
    config = DecoderConfig(
        vocab_size=vocabulary, dim=dim, num_layers=4, num_heads=4, num_kv_heads=2, mlp_dim=3 * dim, tie_embeddings=True
    )
    return AutoEasyDeLModelForCausalLM.from_config(config)


def of_one_length(tokens: int, rows: int) -> list[dict[str, Any]]:
    ids = np.arange(3, 3 + tokens, dtype=np.int32)
    return [{"input_ids": ids, "labels": ids}] * rows


def of_chat_lengths(rows: int, longest: int) -> ShardedDataSource:
    """Tokenized rows as long as those of chat data sets."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(196), 0.8, rows), 16, longest).astype(int)
    made = [rng.integers(3, 4096, length).astype(np.int32) for length in lengths]
    return MemoryShardedSource([{"input_ids": ids, "labels": copy.copy(ids)} for ids in made])


if __name__ == "__main__":
    main()
