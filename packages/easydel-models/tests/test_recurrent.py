"""Layers with a running state: chunks equal single steps, documents begin anew, padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.recurrent.convolution import short_convolution
from easydel_models.recurrent.delta_rule import delta_rule, delta_rule_step, unit_length
from easydel_models.recurrent.documents import running_documents

ROWS, LENGTH, HEADS, WIDTH, OUT = 3, 150, 2, 8, 6  # two chunks of 64 and the beginning of a third
SEGMENTS = np.zeros((ROWS, LENGTH), np.int32)
SEGMENTS[0] = 1
SEGMENTS[1, :40], SEGMENTS[1, 40:120] = 1, 2  # padded on the right
SEGMENTS[2, 10:70], SEGMENTS[2, 70:75], SEGMENTS[2, 75:140] = 1, 2, 3  # padded on both sides
REAL = (SEGMENTS > 0).astype(np.int32)
NOTHING = jnp.zeros(ROWS, jnp.int32)
BORDERS = [10, 64, 121]


@pytest.fixture(scope="module")
def inputs():
    keys = jax.random.split(jax.random.key(0), 5)
    query, key = (unit_length(jax.random.normal(k, (ROWS, LENGTH, HEADS, WIDTH))) for k in keys[:2])
    value = jax.random.normal(keys[2], (ROWS, LENGTH, HEADS, OUT))
    log_decay = -jax.nn.softplus(jax.random.normal(keys[3], (ROWS, LENGTH, HEADS)))
    return query, key, value, log_decay, jax.nn.sigmoid(jax.random.normal(keys[4], (ROWS, LENGTH, HEADS)))


@pytest.fixture(scope="module")
def stepwise(inputs):
    """What every real token reads, and the states behind the rows, one step at a time."""
    step = jax.jit(delta_rule_step)
    empty = jnp.zeros((1, HEADS, WIDTH, OUT))
    read, states = np.zeros((ROWS, LENGTH, HEADS, OUT), np.float32), []
    for row in range(ROWS):
        state, document = empty, 0
        for t in np.flatnonzero(SEGMENTS[row]):
            if SEGMENTS[row, t] != document:
                state, document = empty, SEGMENTS[row, t]
            now = dict(zip(("log_decay", "beta"), (array[row : row + 1, t] for array in inputs[3:]), strict=True))
            read[row, t], state = step(*(array[row : row + 1, t] for array in inputs[:3]), **now, state=state)
        states.append(state[0])
    return read, np.stack(states)


def whole(query, key, value, log_decay, beta, documents, state):
    return delta_rule(query, key, value, log_decay=log_decay, beta=beta, documents=documents, state=state)


def chunked(inputs, start, stop, state, before):
    documents = running_documents(jnp.asarray(SEGMENTS[:, start:stop]), before)
    read, state = jax.jit(whole)(*(array[:, start:stop] for array in inputs), documents, state)
    return np.asarray(read) * REAL[:, start:stop, None, None], state, documents.ids[:, -1]


def test_chunks_give_what_single_steps_give(inputs, stepwise):
    read, state, _ = chunked(inputs, 0, LENGTH, jnp.zeros((ROWS, HEADS, WIDTH, OUT)), NOTHING)
    np.testing.assert_allclose(read, stepwise[0], atol=8e-6)
    np.testing.assert_allclose(state, stepwise[1], atol=8e-6)


@pytest.mark.parametrize("border", BORDERS)
def test_a_row_may_be_read_in_two_parts(inputs, stepwise, border):
    empty = jnp.zeros((ROWS, HEADS, WIDTH, OUT))
    first, state, document = chunked(inputs, 0, border, empty, NOTHING)
    second, state, _ = chunked(inputs, border, LENGTH, state, document)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), stepwise[0], atol=8e-6)
    np.testing.assert_allclose(state, stepwise[1], atol=8e-6)


def test_gradients_do_not_cross_documents_and_stay_finite(inputs):
    documents = running_documents(jnp.asarray(SEGMENTS), NOTHING)
    empty = jnp.zeros((ROWS, HEADS, WIDTH, OUT))
    last = jnp.asarray(SEGMENTS.max(axis=1, keepdims=True) == SEGMENTS)[..., None, None]

    def loss(*arrays):
        return jnp.where(last, whole(*arrays, documents, empty)[0], 0).sum()

    for grad in jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))(*inputs):
        assert np.isfinite(grad).all()
        # Sums of decays are differences of running sums, which leave rounding behind.
        np.testing.assert_allclose(grad[1, :40], 0, atol=1e-6)
        np.testing.assert_allclose(grad[2, :75], 0, atol=1e-6)
        assert np.abs(grad[2, 76:139]).max() > 1e-3


@pytest.mark.parametrize("border", [0, 64])
def test_the_convolution_sees_its_own_document_only_whatever_the_parts(border):
    x = jax.random.normal(jax.random.key(6), (ROWS, LENGTH, 4))
    kernel, bias = jax.random.normal(jax.random.key(7), (3, 4)), jnp.arange(4.0)
    expected = np.broadcast_to(np.asarray(bias), x.shape).copy()
    for row, t in np.argwhere(SEGMENTS):
        for tap in range(3):
            seen = t - 2 + tap
            if seen >= 0 and SEGMENTS[row, seen] == SEGMENTS[row, t]:
                expected[row, t] += np.asarray(kernel[tap] * x[row, seen])
    state, before, found = jnp.zeros((ROWS, 2, 4)), NOTHING, []
    for start, stop in ((0, border), (border, LENGTH)) if border else ((0, LENGTH),):
        documents = running_documents(jnp.asarray(SEGMENTS[:, start:stop]), before)
        result, state = short_convolution(x[:, start:stop], kernel, bias, documents=documents, state=state)
        before = documents.ids[:, -1]
        found.append(result)
    both = np.concatenate(found, axis=1)
    np.testing.assert_allclose(both * REAL[..., None], expected * REAL[..., None], atol=1e-5)
