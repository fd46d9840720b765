"""The scanned decoder against an unrolled one, written here in plain NumPy and float64 from the papers' formulas."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.config import DecoderConfig
from easydel_models.decoder import restarting_positions
from easydel_models.generation.decode_step import decode_step
from easydel_models.generation.slot_cache import Store, newest_kept, recent_store, windows_of
from easydel_models.generation.weights import decode_weights
from easydel_models.heads import CausalLM
from easydel_models.layers.norms import NormConfig
from easydel_models.layers.rope import RopeConfig
from easydel_models.parameters import join_params, split_params

PLAIN = DecoderConfig(
    vocab_size=50, dim=24, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=40, initializer_range=0.3
)
CONFIGS = {
    "plain": PLAIN,
    "sliding window": dataclasses.replace(PLAIN, model_type="mistral", sliding_window=3),
    "llama3 rope": dataclasses.replace(
        PLAIN, rope=RopeConfig(theta=100.0, kind="llama3", factor=4.0, original_max_positions=32)
    ),
    "linear rope": dataclasses.replace(PLAIN, rope=RopeConfig(kind="linear", factor=2.0)),
    "biases": dataclasses.replace(PLAIN, attention_bias=True, mlp_bias=True, activation="gelu_tanh"),
    "tied": dataclasses.replace(PLAIN, tie_embeddings=True, norm=NormConfig(eps=1e-2)),
}
SEGMENTS = np.asarray([[1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]], np.int32)
IDS = np.random.default_rng(0).integers(0, 50, SEGMENTS.shape).astype(np.int32)


def random_model(config):
    structure, params = split_params(CausalLM.from_config(config, seed=1))
    rng = np.random.default_rng(2)
    # Norms and biases away from 1 and 0, so that leaving one out shows.
    noisy = jax.tree.map(lambda x: x + jnp.asarray(0.1 * rng.standard_normal(x.shape), x.dtype), params)
    return join_params(structure, noisy)


def numpy_logits(config, params, ids):
    """Logits of one document."""
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x = w["embedding"][ids]
    for layer in range(config.num_layers):
        own = {name: stack[layer] for name, stack in w["layers"].items()}
        x = x + numpy_attention(config, own, numpy_norm(x, own["attention_norm"], config.norm.eps))
        h = numpy_norm(x, own["mlp_norm"], config.norm.eps)
        gate = numpy_linear(own, "gate", h)
        if config.activation == "silu":
            gate = gate / (1 + np.exp(-gate))
        else:
            gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        x = x + numpy_linear(own, "down", gate * numpy_linear(own, "up", h))
    return numpy_norm(x, w["final_norm"], config.norm.eps) @ w.get("head", w["embedding"]).T


def numpy_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def numpy_linear(own, name, x):
    return x @ own[name] + own.get(f"{name}_bias", 0.0)


def numpy_attention(config, own, x):
    length, width = len(x), config.head_dim
    query = numpy_linear(own, "query", x).reshape(length, config.num_heads, width)
    key = numpy_linear(own, "key", x).reshape(length, config.num_kv_heads, width)
    value = numpy_linear(own, "value", x).reshape(length, config.num_kv_heads, width)
    query, key = numpy_rope(config.rope, query), numpy_rope(config.rope, key)
    out = np.zeros_like(query)
    for t in range(length):
        first = 0 if config.sliding_window is None else max(0, t - config.sliding_window + 1)
        for head in range(config.num_heads):
            group = head // (config.num_heads // config.num_kv_heads)
            scores = key[first : t + 1, group] @ query[t, head] / math.sqrt(width)
            weights = np.exp(scores - scores.max())
            out[t, head] = weights @ value[first : t + 1, group] / weights.sum()
    return numpy_linear(own, "output", out.reshape(length, -1))


def numpy_rope(rope, x):
    length, _, width = x.shape
    out = np.zeros_like(x)
    for pair in range(width // 2):
        frequency = rope.theta ** (-2 * pair / width)
        if rope.kind == "linear":
            frequency /= rope.factor
        if rope.kind == "llama3":
            turns = rope.original_max_positions * frequency / (2 * math.pi)
            share = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
            share = min(1.0, max(0.0, share))
            frequency = share * frequency + (1 - share) * frequency / rope.factor
        for t in range(length):
            pair_value = complex(1, 0) * (x[t, :, pair] + 1j * x[t, :, pair + width // 2])
            turned = pair_value * np.exp(1j * t * frequency)
            out[t, :, pair], out[t, :, pair + width // 2] = turned.real, turned.imag
    return out


@pytest.mark.parametrize("name", CONFIGS)
def test_scan_equals_the_unrolled_numpy_decoder(name):
    config = CONFIGS[name]
    model = random_model(config)
    structure, params = split_params(model)
    run = jax.jit(lambda params: join_params(structure, params)(jnp.asarray(IDS), segment_ids=jnp.asarray(SEGMENTS)))
    logits = np.asarray(run(params))
    for row, segments in enumerate(SEGMENTS):
        for document in range(1, segments.max() + 1):
            own = segments == document
            np.testing.assert_allclose(logits[row, own], numpy_logits(config, params, IDS[row, own]), atol=2e-4)


def test_remat_changes_neither_loss_nor_gradient():
    structure, params = split_params(random_model(PLAIN))
    ids, segments = jnp.asarray(IDS), jnp.asarray(SEGMENTS)

    def grad(remat):
        loss = lambda params: (  # noqa: E731
            join_params(structure, params).hidden(ids, segment_ids=segments, remat=remat).sum()
        )
        return jax.jit(jax.value_and_grad(loss))(params)

    expected_loss, expected = grad("none")
    for remat in ("dots", "full"):
        loss, found = grad(remat)
        assert float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4), found, expected)


def test_gradient_is_the_slope():
    structure, params = split_params(random_model(PLAIN))
    ids, segments = jnp.asarray(IDS), jnp.asarray(SEGMENTS)

    @jax.jit
    def loss(params):
        return jnp.tanh(join_params(structure, params).hidden(ids, segment_ids=segments)).mean()

    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), params)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), jax.jit(jax.grad(loss))(params), direction)))
    step = 1e-3

    def moved(distance):
        return loss(jax.tree.map(lambda x, d: x + jnp.float32(distance) * d, params, direction))

    ahead, behind = moved(step), moved(-step)
    assert float(ahead - behind) / (2 * step) == pytest.approx(float(slope), rel=0.02, abs=1e-3)


def test_the_pad_token_passes_its_gradient_on():
    config = dataclasses.replace(PLAIN, pad_token_id=7)
    structure, params = split_params(random_model(config))
    loss = lambda params: (join_params(structure, params).hidden(jnp.asarray([[3, 7, 5]])) ** 2).sum()  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params)
    assert np.abs(grads["embedding"][7]).max() > 0


def test_positions_restart_in_every_run():
    segments = jnp.asarray([[0, 0, 1, 1, 1, 2, 0], [1, 2, 2, 3, 3, 3, 3]], jnp.int32)
    assert restarting_positions(segments).tolist() == [[0, 1, 0, 1, 2, 0, 0], [0, 0, 1, 0, 1, 2, 3]]


def kept_of(model, memories, lengths):
    """What a cache would keep of seven slots read."""
    windows = windows_of(model.config)
    return Store(newest_kept(memories, windows, jnp.asarray(lengths)), windows, 7)


@pytest.mark.parametrize("name", ["plain", "sliding window"])
def test_steps_after_a_prompt_give_the_logits_of_the_whole_row(name):
    model = random_model(CONFIGS[name])
    ids, lengths = jnp.asarray(IDS), np.asarray([7, 4], np.int32)
    memories = model.memories(ids[:, :7], segment_ids=jnp.asarray(np.arange(7) < lengths[:, None], jnp.int32))
    weights, store = decode_weights(model, rows=2), kept_of(model, memories, lengths)
    recent = recent_store(model.config, store, 4, model.dtype)
    whole = np.asarray(model(ids))
    for step in range(4):
        tokens = ids[jnp.arange(2), lengths + step]
        where = {"lengths": jnp.asarray(lengths), "step": jnp.int32(step)}
        logits, recent = decode_step(model.config, weights, tokens, store, recent, **where)
        np.testing.assert_allclose(logits, whole[np.arange(2), lengths + step], atol=1e-4)


def test_knowing_the_longest_segment_changes_nothing():
    """Four documents of 96 tokens in a row: attention may leave out keys, never one that is seen."""
    config = DecoderConfig(vocab_size=64, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=32)
    model = CausalLM.from_config(config, seed=3)
    input_ids = jax.random.randint(jax.random.key(0), (1, 384), 0, 64)
    segment_ids = jnp.repeat(jnp.arange(1, 5, dtype=jnp.int32), 96)[None]

    def gradient(**options):
        return jax.grad(lambda embedding: _with_embedding(model, embedding, input_ids, segment_ids, options))(
            model.embedding[...]
        )

    np.testing.assert_allclose(gradient(longest_segment=96), gradient(), rtol=1e-4, atol=1e-5)


def _with_embedding(model, embedding, input_ids, segment_ids, options):
    structure, params = split_params(model)
    joined = join_params(structure, params | {"embedding": embedding})
    return jnp.square(joined.hidden(input_ids, segment_ids=segment_ids, **options)).sum()


@pytest.mark.parametrize(
    ("name", "implementation"),
    [
        ("plain", "reference"),
        ("sliding window", "blocked"),
        pytest.param("plain", "blocked", marks=pytest.mark.thorough),
        pytest.param("sliding window", "reference", marks=pytest.mark.thorough),
    ],
)
def test_a_prompt_that_several_answers_share_is_as_good_as_one_for_each(name, implementation):
    """Hidden states of the answers, and the gradient of every parameter, over rows of `prompt answer`."""
    structure, params = split_params(random_model(CONFIGS[name]))
    prompt, answers = IDS[0, :4], (IDS[0, 4:9], IDS[1, :3], IDS[1, 3:])
    weights = [jax.random.normal(jax.random.key(n), (len(answer), 24)) for n, answer in enumerate(answers)]

    def apart(params):
        model = join_params(structure, params)
        rows = [model.hidden(jnp.asarray([*prompt, *answer])[None])[0, len(prompt) :] for answer in answers]
        return sum((row * weight).sum() for row, weight in zip(rows, weights, strict=True))

    def shared(params):
        sizes = [len(answer) for answer in answers]
        line = np.concatenate([prompt, *answers, [0, 0]])
        own = np.repeat([9, 1, 2, 3, 0], [len(prompt), *sizes, 2])
        prefix = np.where((own > 0) & (own < 9), 9, 0)
        positions = np.concatenate([np.arange(len(prompt)), *(len(prompt) + np.arange(size) for size in sizes), [0, 0]])
        mask_inputs = {"segment_ids": own, "prefix_ids": prefix, "positions": positions}
        how = {key: jnp.asarray(array, jnp.int32)[None] for key, array in mask_inputs.items()}
        hidden = join_params(structure, params).hidden(
            jnp.asarray(line)[None], longest_segment=12, implementation=implementation, **how
        )
        return (hidden[0, len(prompt) : -2] * jnp.concatenate(weights)).sum()

    (one, gradient), (other, same) = (jax.value_and_grad(function)(params) for function in (apart, shared))
    np.testing.assert_allclose(other, one, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4), gradient, same)


def test_a_prefix_without_what_it_needs_is_refused():
    model = random_model(PLAIN)
    ids = jnp.asarray(IDS[:1])
    mask_inputs = {"segment_ids": jnp.asarray(SEGMENTS[:1]), "prefix_ids": jnp.zeros_like(ids)}
    with pytest.raises(ValueError, match="need `segment_ids` and `positions`"):
        model.hidden(ids, **mask_inputs)
    with pytest.raises(ValueError, match="need `segment_ids` and `positions`"):
        model.hidden(ids, prefix_ids=jnp.ones_like(ids), positions=jnp.arange(11)[None])


@pytest.mark.parametrize(("length", "named"), [(6, "short_factor"), (12, "long_factor")])
def test_longrope_goes_by_the_length_of_the_whole_document(length, named):
    """A document longer than the original context is turned by the long factors from its first token on."""
    factors = {"short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [1.0, 4.0, 9.0, 16.0]}
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    scaling = {"rope_type": "longrope", "original_max_position_embeddings": 8}
    config = {**sizes, "model_type": "phi3", "num_attention_heads": 2, "max_position_embeddings": 64}
    ids = jnp.asarray(np.arange(length)[None] % 31)

    def hidden(short, long):
        rope = {**scaling, "short_factor": factors[short], "long_factor": factors[long]}
        return CausalLM.from_config(DecoderConfig.from_hf({**config, "rope_scaling": rope}), seed=2).hidden(ids)

    np.testing.assert_array_equal(hidden("short_factor", "long_factor"), hidden(named, named))
