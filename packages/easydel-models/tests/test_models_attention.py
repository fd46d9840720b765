import functools

import easydel_models.attention.blocked as blocked
import easydel_models.attention.entry as attention_module
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.attention import attention
from easydel_models.attention import check as attention_check
from easydel_models.attention.splash import splash_attention
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTH = 37
PACKED = np.repeat([1, 2, 3], [5, 20, 12])
LEFT = np.repeat([0, 1], [9, 28])
RIGHT = np.repeat([1, 0], [28, 9])
POSITIONS = jnp.tile(jnp.arange(LENGTH, dtype=jnp.int32), (2, 1))

CASES = {
    "plain": {},
    "packed": {"segment_ids": [PACKED, PACKED[::-1]]},
    "padded": {"segment_ids": [LEFT, RIGHT]},
    "windowed": {"window": 4},
    "packed and windowed": {"segment_ids": [PACKED, RIGHT], "window": 3},
    "window of one": {"window": 1},
    "window wider than the row": {"window": 100},
    "soft-capped": {"softcap": 1.5, "segment_ids": [PACKED, LEFT]},
    "scaled": {"scale": 0.7},
    "both directions": {"causal": False, "segment_ids": [PACKED, LEFT]},
    "explicit positions": {"positions": POSITIONS, "kv_positions": POSITIONS, "window": 6},
}


@pytest.fixture(params=[16, 5], ids=["few blocks", "many blocks"])
def small_blocks(request, monkeypatch):
    """Blocks so small that a short row has several of them and a rest."""
    monkeypatch.setattr(blocked, "BLOCK", request.param)


def heads(seed, count, *, length=LENGTH, batch=2, width=8):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((batch, length, count, width)), jnp.float32)


def arguments(case):
    return {
        name: jnp.asarray(np.stack(value), jnp.int32) if name == "segment_ids" else value
        for name, value in CASES[case].items()
    }


def plain_attention(query, key, value, *, segments, window, scale, softcap=None, causal=True):
    """One row and one query at a time, in float64: the definition."""
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    out = np.zeros_like(query)
    repeats = query.shape[2] // key.shape[2]
    for b, t, h in np.ndindex(query.shape[:3]):
        seen = [
            s
            for s in range(key.shape[1])
            if segments[b][s] == segments[b][t] > 0 and (not causal or s <= t) and (not causal or t - s < window)
        ]
        if not seen:
            continue
        scores = key[b, seen, h // repeats] @ query[b, t, h] * scale
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights @ value[b, seen, h // repeats] / weights.sum()
    return out


@pytest.mark.parametrize(("case", "kv_heads"), [*((case, 2) for case in CASES), ("packed", 1), ("packed", 6)])
def test_reference_follows_the_definition(case, kv_heads):
    query, key, value = heads(0, 6), heads(1, kv_heads), heads(2, kv_heads)
    given_case = arguments(case)
    found = jax.jit(functools.partial(attention, implementation="reference", **given_case))(query, key, value)
    expected = plain_attention(
        query,
        key,
        value,
        segments=np.asarray(given_case.get("segment_ids", np.ones((2, LENGTH)))),
        window=given_case.get("window", LENGTH),
        scale=given_case.get("scale", 8**-0.5),
        softcap=given_case.get("softcap"),
        causal=given_case.get("causal", True),
    )
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"plain", "window of one", "scaled"}))
def test_blocked_equals_the_reference_forward_and_backward(case, small_blocks):
    query, key, value, weight = heads(0, 6), heads(1, 2), heads(2, 2), heads(3, 6)
    given_case = arguments(case)

    def loss(query, key, value, implementation):
        return (attention(query, key, value, implementation=implementation, **given_case) * weight).sum()

    grad = jax.value_and_grad(loss, argnums=(0, 1, 2))
    run = jax.jit(lambda *heads: (grad(*heads, "reference"), grad(*heads, "blocked")))
    (expected_loss, expected), (found_loss, found) = run(query, key, value)
    np.testing.assert_allclose(found_loss, expected_loss, rtol=1e-4, atol=1e-4)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_another_document_changes_no_bit(implementation, small_blocks):
    segments = jnp.asarray(np.stack([PACKED, LEFT]), jnp.int32)
    query, key, value, weight = heads(0, 4), heads(1, 2), heads(2, 2), heads(3, 4)
    theirs = (segments == 2)[:, :, None, None]
    ours = ((segments == 1) | (segments == 3))[:, :, None, None]

    @jax.jit
    def outcome(query, key, value):
        def loss(query, key, value):
            mixed = attention(query, key, value, segment_ids=segments, implementation=implementation)
            return jnp.where(ours, mixed * weight, jnp.float32(0)).sum(), mixed

        grads, mixed = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(query, key, value)
        return mixed, *grads

    before = outcome(query, key, value)
    after = outcome(*(jnp.where(theirs, array * 3 + 1, array) for array in (query, key, value)))
    for one, other in zip(before, after, strict=True):
        keep = np.broadcast_to(np.asarray(ours), one.shape)
        np.testing.assert_array_equal(np.asarray(one)[keep], np.asarray(other)[keep])


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_padding_gives_zero_and_no_gradient(implementation, small_blocks):
    segments = jnp.asarray(np.stack([LEFT, RIGHT]), jnp.int32)
    query, key, value = heads(0, 2), heads(1, 2), heads(2, 2)

    def loss(query, key, value):
        mixed = attention(query, key, value, segment_ids=segments, implementation=implementation)
        return mixed.sum(), mixed

    grads, mixed = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(query, key, value)
    padding = np.asarray(segments) == 0
    for array in (mixed, *grads):
        assert np.all(np.isfinite(array))
        assert np.all(np.asarray(array)[padding] == 0)


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, LENGTH), max_size=5), padding=st.integers(0, 9), left=st.booleans())
def test_any_packing_follows_the_definition(cuts, padding, left):
    segments = 1 + np.searchsorted(np.sort(cuts), np.arange(LENGTH), side="right")
    segments[: padding if left else 0] = 0
    segments[LENGTH - (0 if left else padding) :] = 0
    query, key, value = (heads(seed, 2, batch=1) for seed in range(3))
    found = windowed_attention(query, key, value, jnp.asarray(segments[None], jnp.int32))
    expected = plain_attention(query, key, value, segments=segments[None], window=5, scale=8**-0.5)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@jax.jit
def windowed_attention(query, key, value, segments):
    return attention(query, key, value, segment_ids=segments, window=5, implementation="blocked")


@pytest.mark.parametrize("implementation", ["reference", "blocked"])
def test_bfloat16_stays_close(implementation):
    query, key, value = heads(0, 4, length=200), heads(1, 2, length=200), heads(2, 2, length=200)
    run = jax.jit(functools.partial(attention, implementation=implementation))
    exact = run(query, key, value)
    coarse = run(*(array.astype(jnp.bfloat16) for array in (query, key, value)))
    assert coarse.dtype == jnp.bfloat16
    np.testing.assert_allclose(coarse.astype(jnp.float32), exact, atol=0.04)


def test_blocked_memory_grows_with_length_not_its_square():
    def temporary_bytes(length, implementation):
        shapes = [jax.ShapeDtypeStruct((1, length, count, 16), jnp.float32) for count in (4, 2, 2)]

        def grads(*arrays):
            loss = lambda *arrays: attention(*arrays, implementation=implementation).sum()  # noqa: E731
            return jax.grad(loss, argnums=(0, 1, 2))(*arrays)

        return jax.jit(grads).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    score_matrix = 4 * 4096 * 4096 * 4  # heads, queries, keys, bytes
    assert temporary_bytes(4096, "blocked") < score_matrix / 2
    assert temporary_bytes(4096, "reference") > score_matrix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"implementation": "flash"}, "`implementation` is 'flash'; expected auto, reference, blocked, xla, cudnn, sp"),
        ({"window": 0}, "`window` is 0 with `causal` True"),
        ({"window": 3, "causal": False}, "`window` is 3 with `causal` False"),
        ({"positions": POSITIONS}, "`positions` and `kv_positions` both"),
    ],
)
def test_contradictions_raise(change, message):
    implementation = change.get("implementation", "blocked")
    query, key = heads(0, 2), heads(1, 2)
    # Past the run-time check of the annotation, so that the message users see is tested.
    call = attention.__wrapped__ if implementation == "flash" else attention
    with pytest.raises(ValueError, match=message):
        call(query, key, key, **{"implementation": implementation, **change})


def test_unequal_lengths_need_places():
    query, key = heads(0, 2, length=3), heads(1, 2, length=5)
    with pytest.raises(ValueError, match="3 queries against 5 keys"):
        attention(query, key, key)
    with pytest.raises(ValueError, match="`segment_ids` and `kv_segment_ids` both"):
        attention(query, key, key, causal=False, segment_ids=jnp.ones((2, 3), jnp.int32))


def test_a_prefix_is_a_document_and_needs_their_numbers():
    with pytest.raises(ValueError, match="give `segment_ids` too"):
        attention(heads(0, 2), heads(1, 2), heads(2, 2), prefix_ids=jnp.ones(heads(0, 2).shape[:2], jnp.int32))


def test_heads_must_share_evenly():
    with pytest.raises(ValueError, match="3 query heads cannot share 2"):
        attention(heads(0, 3), heads(1, 2), heads(2, 2))


@pytest.mark.parametrize(
    ("longest", "blocks"),
    [(1, [0, 1]), (128, [0, 1]), (640, [0, 1, 2, 3, 4, 5]), (2048, [0, 1, 2, 3, 4, 6, 8, 12, 16])],
)
def test_few_stretch_lengths_are_compiled(longest, blocks):
    assert blocked.stretch_sizes(longest) == [blocked.BLOCK * number for number in blocks]


@pytest.mark.parametrize("case", [name for name, *_ in attention_check.cases(64)])
@pytest.mark.parametrize("name", ["blocked", "xla", "splash"])
def test_every_implementation_gives_what_the_reference_gives_or_refuses(name, case, monkeypatch):
    """On packed, padded, windowed, grouped inputs, forward and backward; splash by the interpreter of its kernel."""
    monkeypatch.setattr(blocked, "BLOCK", 32)
    function = functools.partial(attention, implementation=name)
    if name == "splash":
        interpreted = functools.partial(splash_attention, interpret=True)
        monkeypatch.setitem(attention_module._IMPLEMENTATIONS, "splash", interpreted)
        monkeypatch.setattr(attention_module, "why_unavailable", lambda name: None)
    options, heads = next((options, heads) for known, options, heads in attention_check.cases(64) if known == case)
    check = attention_check.compare(name, function, case, options, length=64, heads=heads, head_dim=16)
    beyond = {("xla", "soft-capped"), ("xla", "with sinks"), ("splash", "prefixed"), ("splash", "with sinks")}
    assert (check.refused is not None) == ((name, case) in beyond)
    assert check.passed, check
    assert check.refused or check.error > 0 or name == "reference"


@pytest.mark.parametrize(("name", "machine"), [("cudnn", "GPU"), ("splash", "TPU")])
def test_a_kernel_for_another_machine_says_which(name, machine):
    query = heads(0, 2)
    with pytest.raises(ValueError, match=f"needs a {machine}; this machine's backend is cpu"):
        attention(query, query, query, implementation=name)


def test_cudnn_takes_no_float32(monkeypatch):
    monkeypatch.setattr(attention_module, "why_unavailable", lambda name: None)
    query = heads(0, 2)
    with pytest.raises(ValueError, match="float32"):
        attention(query, query, query, implementation="cudnn")


def test_splash_knows_no_places_but_the_rows_order(monkeypatch):
    monkeypatch.setattr(attention_module, "why_unavailable", lambda name: None)
    query = heads(0, 2)
    with pytest.raises(ValueError, match="order in the row"):
        attention(query, query, query, positions=POSITIONS, kv_positions=POSITIONS, implementation="splash")


def test_the_check_says_what_agrees_and_ends_accordingly(monkeypatch, capsys):
    found = {"implementation": "blocked", "tolerance": 1e-5}
    good = attention_check.AttentionCheck(**found, case="plain", error=1e-6, refused=None)
    refused = attention_check.AttentionCheck(**found, case="soft-capped", error=None, refused="it cannot")
    wrong = attention_check.AttentionCheck(**found, case="packed", error=0.5, refused=None)
    for checks, code in (([good, refused], 0), ([good, wrong], 1)):
        monkeypatch.setattr(attention_check, "check_attention", lambda checks=checks: checks)
        with pytest.raises(SystemExit) as ended:
            attention_check.main()
        assert ended.value.code == code
    text = capsys.readouterr().out
    assert "ok    blocked    soft-capped          refused: it cannot" in text
    assert "FAIL  blocked    packed               5.0e-01" in text
    assert "cudnn      not run: needs a GPU" in text
