"""What training promises, for one model of each sort of layer: dense, experts, delta net, windows.

However a step is split or packed its loss and gradients are the same; a resumed run ends with equal bits; shapes
are compiled once; no array holds a number for every token and word.
"""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import CausalLM, join_params, split_params
from easydel_models.lm_loss import fused_linear_ce
from easydel_trainers import Callback, SFTConfig, SFTTrainer
from first_step import first_step, rows_of, small_model, tokenizer
from small_models import small_config
from split_checks import assert_equal_steps
from thoroughness import thorough_but

KINDS = ("dense", "experts", "delta", "windows")
# The other tests of the default run train dense models.
SORTS = thorough_but(KINDS, ["delta"])

pytestmark = pytest.mark.usefixtures("lightly_compiled")


@pytest.fixture(scope="module")
def whole():
    """The step of a kind in one micro-batch, its rows end to end."""
    found = {}
    return lambda kind: found[kind] if kind in found else found.setdefault(kind, first_step("SFT", layers=kind))


@pytest.mark.parametrize("kind", SORTS)
def test_the_split_of_a_step_does_not_matter(kind, whole):
    assert_equal_steps(first_step("SFT", layers=kind, gradient_accumulation_steps=4), whole(kind), what=kind)


@pytest.mark.parametrize("kind", SORTS)
def test_rows_end_to_end_are_trained_as_rows_apart(kind, whole):
    apart = first_step("SFT", layers=kind, padding_free=False, length_buckets=[16])
    assert_equal_steps(apart, whole(kind), what=kind)


class StopAfter(Callback):
    """Breaks a run off, as a kill would."""

    def on_log(self, record, run):
        if record["step"] == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", thorough_but(KINDS, ["experts"]))
def test_a_resumed_run_ends_with_equal_bits_and_compiles_each_shape_once(kind, tmp_path):
    def trainer(folder, *callbacks):
        config = SFTConfig(
            learning_rate=1e-2,
            total_batch_size=2,
            num_train_epochs=2,
            length_buckets=[16, 32],
            log_steps=1,
            save_steps=4,
            save_directory=str(tmp_path / folder),
        )
        rows = rows_of("SFT")
        return SFTTrainer(
            small_model("SFT", seed=0, layers=kind),
            config,
            processing_class=tokenizer(),
            train_dataset=rows,
            callbacks=callbacks,
        )

    uninterrupted = trainer("whole")
    output = uninterrupted.train()
    assert output.global_step == 8
    assert 1 <= output.metrics["compilations"] <= 2
    with pytest.raises(KeyboardInterrupt):
        trainer("broken", StopAfter()).train()
    resumed = trainer("broken")
    assert resumed.train().global_step == 8
    ours, theirs = (jax.tree.leaves(split_params(one.model)[1]) for one in (resumed, uninterrupted))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


TOKENS, WORDS = 4096, 4999


@pytest.mark.parametrize("kind", KINDS)
def test_no_array_holds_a_number_for_every_token_and_word(kind):
    structure, params = split_params(CausalLM.from_config(small_config(kind, vocab_size=WORDS), dtype="float32"))

    def loss(params, ids, segments):
        model = join_params(structure, params)
        hidden = model.hidden(ids, segment_ids=segments, remat="full", longest_segment=64)
        return fused_linear_ce(hidden, model.linear_head(), jnp.roll(ids, -1, axis=1))[0]

    ids = jax.ShapeDtypeStruct((1, TOKENS), jnp.int32)
    shapes = {tuple(shape) for shape in shapes_in(jax.make_jaxpr(jax.grad(loss))(params, ids, ids).jaxpr)}
    of_words = [prod(shape) // WORDS for shape in shapes if WORDS in shape]
    assert 32 in of_words, "the table itself, so that arrays of that axis are found"
    assert max(of_words) <= 512 < TOKENS  # a chunk of the head's


def shapes_in(jaxpr):
    """The shapes of all that a program computes, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars if hasattr(variable.aval, "shape"))
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                program = getattr(inner, "jaxpr", inner)
                if hasattr(program, "eqns"):
                    yield from shapes_in(program)
