import jax.numpy as jnp
import numpy as np
from easydel_models.generation.logits_processing import hold_back, penalise_repetition

NO = -jnp.inf


def test_repetition_penalty_divides_positive_logits_and_multiplies_negative_ones():
    logits = jnp.array([[2.0, -2.0, 1.0, 0.0], [3.0, -1.0, 4.0, -5.0]])
    present = jnp.array([[True, True, False, True], [False, False, True, True]])
    expected = [[1.0, -4.0, 1.0, 0.0], [3.0, -1.0, 2.0, -10.0]]
    np.testing.assert_array_equal(penalise_repetition(logits, present, 2.0), expected)


def test_a_penalty_below_one_makes_repetition_likelier():
    processed = penalise_repetition(jnp.array([[2.0, -2.0]]), jnp.array([[True, True]]), 0.5)
    np.testing.assert_array_equal(processed, [[4.0, -1.0]])


def test_stop_tokens_are_held_back_in_some_rows_and_fillers_are_no_tokens():
    logits = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    processed = hold_back(logits, jnp.array([2, 0, -1, -1]), jnp.array([True, False]))
    np.testing.assert_array_equal(processed, [[NO, 2.0, NO], [1.0, 2.0, 3.0]])


def test_where_every_token_is_a_stop_token_none_is_held_back():
    logits = jnp.array([[1.0, 2.0]])
    np.testing.assert_array_equal(hold_back(logits, jnp.array([0, 1]), jnp.array([True])), logits)
