"""Lines in which sequences share their prompt: nothing is lost or counted twice, nothing is learned otherwise."""

from __future__ import annotations

import copy

import jax
import numpy as np
import pytest
from easydel_models.parameters import split_params
from easydel_trainers import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer
from easydel_trainers.data.bins import Bin, Piece, spread
from easydel_trainers.data.step_rows import SequenceLayout, StepRow
from easydel_trainers.data.steps import count_attended, count_held, count_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

PROMPTS = ([7, 8, 9, 10, 11], [7, 8, 9, 10, 12], [7], list(range(20, 60)))


def step_row(prompt: list[int], *answers: list[int]) -> StepRow:
    sequences = tuple(
        {
            "input_ids": np.asarray([*prompt, *answer], np.int32),
            "labels": np.asarray([-100] * len(prompt) + answer, np.int32),
            "weights": np.asarray([0.0] * len(prompt) + [0.5] * len(answer), np.float32),
        }
        for answer in answers
    )
    return StepRow(sequences=sequences, values={}, prompt=len(prompt) - 1)


def layout(*, rows: int, share_prompts: bool = True, **options) -> SequenceLayout:
    return SequenceLayout(
        **{
            "micro_batches": 1,
            "rows": rows,
            "sequences": 2,
            "padding_free": True,
            "to_step_rows": list,
            "buckets": (8,),
        }
        | options,
        share_prompts=share_prompts,
    )


def tokens_of(sequence: dict) -> list[tuple]:
    """A sequence as its positions' (token, label, weight, position)."""
    columns = [map(float, values) for values in sequence.values()]
    return list(zip(*columns, map(float, range(len(sequence["input_ids"]))), strict=True))


def sequences_in(arrays: dict) -> list[list[tuple]]:
    """Every sequence in the bins as `tokens_of` shows it, its prompt's copy included."""
    found = []
    flat = {name: array.reshape(-1, array.shape[-1]) for name, array in arrays.items() if name != "rows"}
    for bin_number in range(len(flat["input_ids"])):
        of_bin = {name: array[bin_number] for name, array in flat.items()}
        found_in = list(zip(*(of_bin[name] for name in ("input_ids", "labels", "weights", "positions")), strict=True))
        numbers, prefixes = of_bin["segment_ids"], of_bin["prefix_ids"]
        for number in sorted({*numbers.tolist()} - {0, *prefixes.tolist()}):
            own = np.flatnonzero(numbers == number)
            (prefix,) = {*prefixes[own].tolist()}
            copy_of_prompt = np.flatnonzero(numbers == prefix) if prefix else []
            assert all(position < own[0] for position in copy_of_prompt)
            found.append([tuple(map(float, found_in[position])) for position in (*copy_of_prompt, *own)])
    return found


answers = st.lists(st.integers(1, 5), max_size=9)
rows = st.lists(st.tuples(st.sampled_from(PROMPTS), answers, answers), min_size=1, max_size=9)


@given(rows=rows, micro_batches=st.integers(1, 3), parts=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_every_sequence_is_there_once_and_whole(rows, micro_batches, parts):
    step_rows = [step_row(prompt, chosen, rejected) for prompt, chosen, rejected in rows]
    most = -(-len(step_rows) // micro_batches)
    options = {"rows": most, "micro_batches": micro_batches, "parts": parts}
    arrays = layout(**options).arrange_step_rows(step_rows)
    expected = [tokens_of(one) for one_row in step_rows for one in one_row.sequences]
    assert sorted(sequences_in(arrays)) == sorted(expected)
    assert count_tokens(arrays) == sum(map(len, expected))
    assert count_attended(arrays) == twice_the_pairs(arrays)
    apart = layout(**options, share_prompts=False).arrange_step_rows(step_rows)
    assert count_held(arrays) <= count_held(apart) == count_tokens(apart) == count_tokens(arrays)


def twice_the_pairs(arrays: dict) -> int:
    """Counted from the mask; a token that meets itself counts as half a pair."""
    numbers, prefixes = (arrays[name].reshape(-1, arrays[name].shape[-1]) for name in ("segment_ids", "prefix_ids"))
    own = (numbers[:, :, None] == numbers[:, None]) & (numbers > 0)[:, :, None]
    of_prompt = (prefixes[:, :, None] == numbers[:, None]) & (prefixes > 0)[:, :, None]
    return int(own.sum() + 2 * of_prompt.sum())


def test_a_line_holds_a_prompt_once():
    step_rows = [step_row(PROMPTS[0], [1, 2], [3]), step_row(PROMPTS[1], [4], [5, 6])]
    arrays = layout(rows=2).arrange_step_rows(step_rows)
    # Two prompts that differ in their last token have the rest in common.
    assert arrays["input_ids"][0, 0].tolist() == [7, 8, 9, 10, 11, 1, 2, 12, 4, 11, 3, 12, 5, 6, 0, 0]
    assert arrays["segment_ids"][0, 0].tolist() == [5, 5, 5, 5, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 0, 0]
    assert arrays["prefix_ids"][0, 0].tolist() == [0] * 4 + [5] * 10 + [0] * 2
    assert arrays["positions"][0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 4, 5, 4, 5, 6, 0, 0]


def test_a_copy_too_far_away_is_not_shared():
    """Ten answers of a thousand tokens: passing by them would cost more than the eight tokens of their prompt."""
    prompt, answer = [*range(9)], [1] * 1000
    long, short = Bin(), Bin()
    for number in range(1, 11):
        long.add(number, step_row(prompt, answer).sequences[0], prompt=8)
        short.add(number, step_row(prompt, answer[:30]).sequences[0], prompt=8)
    assert len(long.families) == 10
    assert len(short.families) == 1


def test_answers_are_spread_so_that_most_find_their_prompt():
    pieces = [
        Piece(step_row(prompt, [n] * 5).sequences, len(prompt) - 1) for n in (1, 2, 3, 4) for prompt in PROMPTS[:1]
    ]
    pieces += [Piece(step_row([30, 31, 32, 33, 34], [n] * 5).sequences, 4) for n in (1, 2, 3, 4)]
    assert [sorted(indices) for indices in spread(pieces, count=2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(indices) for indices in spread(pieces, count=2, most=4)] == [4, 4]


def reward(completions, **columns):
    return [float(len(completion)) for completion in completions]


TRAINERS = {
    "dpo": (DPOTrainer, DPOConfig, {"max_length": 24}, {}),
    "kto": (KTOTrainer, KTOConfig, {"max_length": 24}, {}),
    "grpo": (
        GRPOTrainer,
        GRPOConfig,
        {"num_return_sequences": 4, "max_completion_length": 9, "num_iterations": 2},
        {"reward_funcs": reward},
    ),
}


@pytest.mark.parametrize(
    "name", [name if name == "dpo" else pytest.param(name, marks=pytest.mark.thorough) for name in TRAINERS]
)
def test_training_is_the_same_with_a_prompt_for_each(name, tiny_model, tokenizer, pair_rows):
    trainer_class, config_class, own, arguments = TRAINERS[name]

    def run(**options):
        trainer = trainer_class(
            copy.deepcopy(tiny_model),
            config_class(
                optimizer="sgd",
                learning_rate=0.05,
                scheduler="constant",
                total_batch_size=8,
                max_training_steps=3,
                log_steps=1,
                seed=3,
                **own,
                **options,
            ),
            processing_class=tokenizer,
            train_dataset=pair_rows,
            **arguments,
        )
        output = trainer.train()
        return output.history, jax.tree.map(np.asarray, split_params(trainer.model)[1])

    (history, params), (expected, same) = run(), run(padding_free=False)
    for step, other in zip(history, expected, strict=True):
        np.testing.assert_allclose(step["loss"], other["loss"], rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(step["grad_norm"], other["grad_norm"], rtol=2e-4)
        assert step["num_tokens"] == other["num_tokens"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), params, same)
