"""Tiny models of every family, as transformers computed them: logits, training steps, greedy tokens, saved folders.

Each case is one folder; `golden/families/README.md` says what is in it. Those committed are a sample. Where the
environment variable `EASYDEL_GOLDEN` names a folder, that of all cases or one that holds it as `families`, the cases
there are taken instead.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, join_params, split_params
from easydel_models.experts.routing import load_balancing_loss, whole_load
from easydel_models.files.weights import export_tensors
from easydel_models.lm_loss import IGNORE_INDEX, fused_linear_ce
from easydel_models.parameters import parameter_specs
from safetensors.numpy import load_file
from thoroughness import thorough_but

pytestmark = pytest.mark.usefixtures("lightly_compiled")

LOGITS, LOSS, NORM, TIE = 2e-4, 5e-5, 1e-3, 1e-3


def folder_of_cases() -> Path:
    named = os.environ.get("EASYDEL_GOLDEN")
    if named is None:
        return Path(__file__).parent / "golden" / "families"
    return Path(named) / "families" if (Path(named) / "families").is_dir() else Path(named)


CASES = sorted(path.parent.name for path in folder_of_cases().glob("*/expected.json"))


# One of each kind of layer; the others are told apart by their numbers alone.
KEPT = ("deepseek_v3", "gemma3_text", "gpt_oss", "llama", "qwen3_next")


@pytest.fixture(
    scope="module",
    params=CASES if "EASYDEL_GOLDEN" in os.environ else thorough_but(CASES, [name for name in KEPT if name in CASES]),
)
def case(request):
    return Case(folder_of_cases() / request.param)


class Case:
    """One folder, and the model in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        self.rows = self.expected["rows"]
        self.model = AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32")
        self.logits = load_file(folder / "logits.safetensors")

    def check(self, logits: np.ndarray, row: int) -> None:
        np.testing.assert_allclose(logits, self.logits[f"logits_{row}"], atol=LOGITS, rtol=0)


def test_there_are_cases():
    assert CASES, f"no case in {folder_of_cases()}"


def test_logits_of_a_row_alone(case):
    case.check(np.asarray(jax.jit(case.model)(jnp.asarray(case.rows[:1])))[0], 0)


def test_logits_of_rows_padded_on_either_side_and_of_a_packed_row(case):
    """All in one batch, so that one program is compiled."""
    rows, sizes = case.rows, [len(row) for row in case.rows]
    width = sum(sizes) + 3
    ids, segments = np.zeros((2 * len(rows) + 1, width), np.int32), np.zeros((2 * len(rows) + 1, width), np.int32)
    where = []
    for number, row in enumerate(rows):
        before = sum(sizes[:number])
        for line, start in ((number, 0), (len(rows) + number, width - len(row)), (2 * len(rows), before)):
            ids[line, start : start + len(row)] = row
            segments[line, start : start + len(row)] = number + 1
            where.append((number, line, slice(start, start + len(row))))
    logits = np.asarray(jax.jit(lambda ids, segments: case.model(ids, segment_ids=segments))(ids, segments))
    for number, line, place in where:
        case.check(logits[line, place], number)


def test_four_steps_of_adamw(case):
    structure, params = split_params(case.model)
    optimizer = optax.adam(case.expected["learning_rate"], b1=0.9, b2=0.999, eps=1e-8)
    steps = case.expected["train_rows"]
    shape = (max(map(len, steps)), max(len(row) for rows in steps for row in rows))

    @jax.jit
    def step(params, state, ids, segments, labels):
        def loss(params):
            model = join_params(structure, params)
            hidden = model.hidden(ids, segment_ids=segments)
            total, stats = fused_linear_ce(hidden, model.linear_head(), labels)
            return total / stats.count

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return value, grads, optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for number, (rows, expected) in enumerate(zip(steps, case.expected["train"], strict=True)):
        ids, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        labels = np.full(shape, IGNORE_INDEX, np.int32)
        for line, row in enumerate(rows):
            ids[line, : len(row)], segments[line, : len(row)], labels[line, : len(row) - 1] = row, 1, row[1:]
        value, grads, params, state = step(params, state, ids, segments, labels)
        assert float(value) == pytest.approx(expected["loss"], rel=LOSS)
        assert float(optax.tree.norm(grads)) == pytest.approx(expected["grad_norm"], rel=NORM)
        if number == 0:
            check_norms(case, grads)


def test_router_loss(case):
    """Over the real tokens of rows padded on the right, whatever else they share a batch with."""
    expected = case.expected.get("router_aux_loss")
    if expected is None:  # transformers has none for this family
        return
    shape = (len(case.rows), max(map(len, case.rows)))
    ids, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for line, row in enumerate(case.rows):
        ids[line, : len(row)], segments[line, : len(row)] = row, 1
    routings = jax.jit(lambda ids, segments: case.model.decoded(ids, segment_ids=segments).routings)(ids, segments)
    assert float(load_balancing_loss(whole_load(routings))) == pytest.approx(expected, rel=1e-5)


def as_transformers_holds(name: str) -> str:
    """Files have a tensor for each expert; transformers 5 holds all of a layer's in one, gate and up together."""
    name = name.replace(".block_sparse_moe.", ".mlp.")
    name = re.sub(r"experts\.\d+\.(gate_proj|up_proj|w1|w3)\.weight", "experts.gate_up_proj", name)
    return re.sub(r"experts\.\d+\.(down_proj|w2)\.weight", "experts.down_proj", name)


def check_norms(case, grads):
    squares: dict[str, float] = {}
    for stored, tensor in export_tensors(grads, case.model.config):
        name = of_text(as_transformers_holds(stored))
        squares[name] = squares.get(name, 0.0) + float(np.sum(np.square(tensor, dtype=np.float64)))
    norms = {name: square**0.5 for name, square in squares.items()}
    largest = max(case.expected["first_step_grad_norms"].values())
    for name, expected in case.expected["first_step_grad_norms"].items():
        assert norms[of_text(name)] == pytest.approx(expected, rel=NORM, abs=1e-6 * largest), name


def of_text(name: str) -> str:
    """The tensor's name in the text model alone."""
    return re.sub(r"^(model\.language_model|language_model\.model)\.", "model.", name.removeprefix("whole."))


def test_greedy_tokens(case):
    found = case.model.generate(case.rows, max_new_tokens=12, eos_token_id=[]).token_ids
    for tokens, expected in zip(found, case.expected["greedy_without_cache"], strict=True):
        for token, wanted, margin in zip(tokens, expected["tokens"], expected["margins"], strict=True):
            if token != wanted:
                assert margin < TIE
                break


def test_the_saved_folder_holds_the_same_tensors(case, tmp_path):
    case.model.save_pretrained(tmp_path)
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(case.folder / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
    assert AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path).config == case.model.config


def test_as_many_parameters(case):
    specs = parameter_specs(case.model.config).values()
    assert sum(math.prod(spec.full_shape) for spec in specs if not spec.buffer) == case.expected["parameters"]
