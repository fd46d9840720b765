"""What must not change the result (rows, blocks, refilling, shards), and what must stay few (programs, copies)."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.lora import with_adapters
from easydel_models.config import DecoderConfig
from easydel_models.generation import batch, block, generate, prefill, slot_cache
from easydel_models.generation.prefill import Prefiller
from easydel_models.generation.shapes import at_least, cache_step, pieces
from easydel_models.layers.attention import Attention
from easydel_models.layers.gated import Gated
from easydel_models.layers.layer import LayerConfig
from easydel_models.layers.linear import blocked_kernel, times_blocked
from easydel_models.layers.tokens import Memory

CONFIG = DecoderConfig(
    vocab_size=61,
    dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    mlp_dim=48,
    max_positions=96,
    tie_embeddings=True,
    eos_token_ids=(2,),
)
PROMPTS = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 4], [60, 1, 30, 20]]
NEVER = {"eos_token_id": []}


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(CONFIG, seed=1)


def assert_same(mine, theirs):
    assert mine.token_ids == theirs.token_ids
    assert mine.finish_reasons == theirs.finish_reasons
    for ours, wanted in zip(mine.logprobs, theirs.logprobs, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


def logits_of_choices(model, prompts, completions):
    """The logits from which each token of equally long completions was chosen, out of one pass without a cache."""
    texts = [[*prompt, *tokens] for prompt, tokens in zip(prompts, completions, strict=True)]
    width, count = max(map(len, texts)), len(completions[0])
    padded = jnp.asarray([text + [0] * (width - len(text)) for text in texts])
    logits = np.asarray(jax.jit(model.__call__)(padded), np.float64)
    return np.stack([row[len(text) - count - 1 : len(text) - 1] for row, text in zip(logits, texts, strict=True)])


@pytest.mark.parametrize("layout", [{"batch_size": 1, "block_size": 5}, {"batch_size": 3, "block_size": 2}])
def test_neither_rows_nor_blocks_nor_refilling_change_a_completion(model, layout):
    # With eight stop tokens of 61 completions end at many different lengths, so rows are refilled all the time.
    prompts = [*PROMPTS, [9] * 40, PROMPTS[1], [4, 4]]
    sample = functools.partial(
        generate,
        model,
        prompts,
        max_new_tokens=30,
        num_return_sequences=2,
        do_sample=True,
        temperature=1.3,
        seed=11,
        eos_token_id=list(range(8)),
    )
    together = sample()
    assert len({len(tokens) for tokens in together.token_ids}) > 4
    assert {"stop", "length"} >= set(together.finish_reasons) >= {"stop"}
    assert_same(sample(**layout), together)


def test_logits_processing_follows_the_row_through_refilling_and_shrinking(model):
    options = {"repetition_penalty": 1.7, "min_new_tokens": 4, "eos_token_id": list(range(12))}
    sample = functools.partial(generate, model, PROMPTS * 3, max_new_tokens=20, do_sample=True, seed=5, **options)
    assert_same(sample(batch_size=5, block_size=3), sample(batch_size=12, block_size=2))


def test_adapters_generate_as_the_merged_model_says(model):
    lora = LoraConfig(rank=2, alpha=8.0, targets=["q_proj", "down_proj"])
    rng, adapters = np.random.default_rng(3), {}
    for name in ("query", "down"):
        rows, columns = model.layers[name][...].shape[1:]
        for end, shape in (("a", (2, rows, 2)), ("b", (2, 2, columns))):
            adapters[f"layers.{name}_lora_{end}"] = jnp.asarray(rng.normal(scale=0.2, size=shape), jnp.float32)
    adapted = with_adapters(model, lora, adapters)
    found = generate(adapted, PROMPTS, max_new_tokens=10, **NEVER)
    assert found.token_ids != generate(model, PROMPTS, max_new_tokens=10, **NEVER).token_ids
    logits = logits_of_choices(adapted, PROMPTS, found.token_ids)
    np.testing.assert_array_equal(logits.argmax(-1), found.token_ids)


def test_half_precision_is_what_the_model_computes_in(random_model):
    half = random_model(CONFIG, seed=1, dtype="bfloat16")
    result = generate(half, PROMPTS, max_new_tokens=5, **NEVER)
    logits = logits_of_choices(half, PROMPTS, result.token_ids)
    chosen = np.take_along_axis(logits, np.asarray(result.token_ids)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(result.logprobs, chosen - np.log(np.exp(logits).sum(-1)), atol=0.15)


def test_each_distinct_prompt_is_read_once(model, monkeypatch):
    read = []
    original = Prefiller.__call__
    monkeypatch.setattr(Prefiller, "__call__", lambda self, rows: read.extend(map(tuple, rows)) or original(self, rows))
    prompts = [[7, 8, 9], [5, 6], [7, 8, 9], [3]]
    generate(model, prompts, max_new_tokens=6, num_return_sequences=4, batch_size=3, do_sample=True, **NEVER)
    assert sorted(read) == [(5, 6), (7, 8, 9)]


def test_many_lengths_share_a_few_programs(model):
    counts = [function._cache_size for function in (prefill._prefill, block.decode_block, slot_cache.admit)]
    before = [count() for count in counts]
    for length in range(1, 81, 3):
        generate(model, [[1] * length], max_new_tokens=1 + length % 15, seed=length, batch_size=2, **NEVER)
    prefills, blocks, admissions = (count() - start for count, start in zip(counts, before, strict=True))
    # Prompts of up to 32, 64 and 128 tokens; caches of 64 and 128 slots, to the second of which all three are admitted.
    assert prefills <= 3
    assert admissions <= 4
    assert blocks <= 2


def test_sizes_are_few_and_not_much_too_large():
    assert [at_least(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 13, 17, 33)] == [1, 2, 3, 4, 6, 6, 8, 12, 16, 24, 48]
    assert [at_least(n, 64) for n in (1, 64, 65, 193, 300)] == [64, 64, 128, 256, 384]
    assert pieces(23, most=1000) == [16, 4, 1, 1, 1]
    assert pieces(9, most=3) == [1] * 9
    assert pieces(0, most=5) == []
    # SmolLM2-135M in float32: 425 MB of layers, 46 KB a token.
    assert [cache_step(rows, 46_080, 425_000_000) for rows in (1, 16, 64)] == [1024, 64, 64]


def test_a_kernel_cut_up_by_its_outputs_multiplies_alike():
    rng = np.random.default_rng(0)
    rows, table = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((3, 8), (12, 8)))
    for blocks in (1, 4):
        np.testing.assert_allclose(times_blocked(rows, blocked_kernel(table, blocks)), rows @ table.T, rtol=1e-5)


def test_cache_is_moved_and_never_copied(model):
    store = slot_cache.empty_store(CONFIG, rows=2, capacity=64, dtype=model.dtype)
    recent = slot_cache.empty_store(CONFIG, rows=2, capacity=4, dtype=model.dtype)
    lengths = jnp.zeros(2, jnp.int32)
    compiled = slot_cache.settle.lower(store, recent, lengths, jnp.int32(4)).compile()
    # All of the store is given back in the memory it came in.
    assert compiled.memory_analysis().alias_size_in_bytes >= 64 * 2 * slot_cache.slot_bytes(CONFIG, model.dtype)
    slot_cache.settle(store, recent, lengths, jnp.int32(4))
    assert all(array.is_deleted() for array in jax.tree.leaves(store))


def test_a_block_needs_no_second_cache(model):
    from easydel_models.generation.model_engine import ModelEngine
    from easydel_models.generation.options import GenerationOptions

    engine = ModelEngine(model, block_size=4)
    work = engine._work(GenerationOptions(max_new_tokens=4), 4)
    rows, capacity = 4, 2048
    own = batch.Batch(work, rows)
    store = slot_cache.empty_store(CONFIG, rows=rows, capacity=capacity, dtype=model.dtype)
    one = jnp.int32(1)
    request = block.Request(jax.random.key(0), jnp.zeros(8, jnp.int32), one, one, one, one)
    compiled = block.decode_block.lower(work.plan, work.weights, store, own._rows(), request).compile()
    analysis = compiled.memory_analysis()
    cache = rows * capacity * slot_cache.slot_bytes(CONFIG, model.dtype)
    # What a step may need is scores of one layer and the block's own tokens, not the cache once more.
    assert analysis.temp_size_in_bytes + analysis.output_size_in_bytes < cache / 2


WINDOWS = DecoderConfig(
    vocab_size=61,
    dim=32,
    layers=tuple(
        LayerConfig(
            mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=8, window=window), feed_forward=Gated(width=48)
        )
        for window in (5, None, 70)
    ),
    initializer_range=0.3,
    tie_embeddings=True,
)


def test_layers_with_windows_keep_only_what_they_look_at(random_model, monkeypatch):
    stores = []
    settled = batch.settle
    monkeypatch.setattr(batch, "settle", lambda *given: stores.append(settled(*given)) or stores[-1])
    model = random_model(WINDOWS, seed=1)
    # Prompts and answers on both sides of both windows, and rows that are refilled.
    prompts = [[5], [7, 8, 9, 10, 11, 12, 13], [9] * 40, list(range(3, 60)) * 2, [3, 4]]
    found = generate(model, prompts, max_new_tokens=80, batch_size=2, block_size=32, **NEVER)
    kept = {tuple(layer.by_token[0].shape[2] for layer in store.layers) for store in stores}
    assert kept == {(5, store.capacity, min(store.capacity, 70)) for store in stores}
    assert max(store.capacity for store in stores) >= 57 * 2 + 80
    np.testing.assert_array_equal(logits_of_choices(model, prompts, found.token_ids).argmax(-1), found.token_ids)


SHARDED = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from easydel_models import CausalLM, DecoderConfig
from easydel_models.parameters import split_params, update_params

config = DecoderConfig(
    vocab_size=61, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, mlp_dim=48, initializer_range=0.3
)
prompts = [[5], [7, 8, 9, 10, 11, 12, 13], [3, 4], [60, 1, 30, 20]]
options = dict(max_new_tokens=9, do_sample=True, seed=3, num_return_sequences=2, batch_size=5, block_size=4)
model = CausalLM.from_config(config, seed=1)
alone = model.generate(prompts, **options)
mesh = Mesh(np.asarray(jax.devices()), ("tp",))
def spread(array):
    spec = PartitionSpec(None, None, "tp") if array.ndim == 3 else PartitionSpec()
    return jax.device_put(array, NamedSharding(mesh, spec))
update_params(model, jax.tree.map(spread, split_params(model)[1]))
assert len(model.layers["query"][...].sharding.device_set) == 2
spread_out = model.generate(prompts, **options)
assert spread_out.token_ids == alone.token_ids
for mine, theirs in zip(spread_out.logprobs, alone.logprobs, strict=True):
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
"""


def test_parameters_spread_over_devices_give_the_same():
    options = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    environment = {**os.environ, **options, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_tokens_are_entered_bit_for_bit(dtype):
    held, new = (jax.random.normal(jax.random.key(n), (2, 3, 5 - 4 * n, 4), dtype) for n in (0, 1))
    new = new.at[0, 0, 0, 0].set(jnp.nan)
    memory = Memory(by_token=(held,)).entered((new.astype(jnp.float32),), jnp.int32(2))
    expected = np.array(held)
    expected[:, :, 2:3] = np.asarray(new)
    assert memory.by_token[0].dtype == dtype
    assert np.asarray(memory.by_token[0]).tobytes() == expected.tobytes()
