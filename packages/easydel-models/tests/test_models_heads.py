import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models.config import DecoderConfig
from easydel_models.dtypes import resolve_dtype
from easydel_models.errors import ConfigError
from easydel_models.heads import CausalLM, SequenceClassifier, pooled_positions
from easydel_models.mesh.partitioning import logical_axes
from easydel_models.parameters import count_parameters, flattened, join_params, nested, split_params

CONFIG = DecoderConfig(
    vocab_size=40, dim=16, num_layers=2, num_heads=2, num_kv_heads=1, mlp_dim=24, attention_bias=True, mlp_bias=True
)
REWARD = dataclasses.replace(CONFIG, num_labels=2, pad_token_id=9)


@pytest.mark.parametrize(
    ("ids", "segments", "pad", "position"),
    [
        ([4, 5, 9, 9], None, 9, 1),  # the last token that is not the pad token
        ([9, 9, 4, 5], None, 9, 3),
        ([4, 9, 5, 9], [1, 1, 1, 1], 9, 2),  # a pad token in the middle is passed over, one at the end too
        ([4, 5, 6, 6], [1, 1, 0, 0], 9, 1),  # padding by the mask, whatever its id
        ([9, 9, 9, 9], [1, 1, 1, 0], 9, 2),  # nothing but pad tokens: the last real position
        ([9, 9, 4, 9], [1, 1, 1, 0], None, 2),
        ([4, 5, 6, 7], None, None, 3),
    ],
)
def test_which_token_is_scored(ids, segments, pad, position):
    rows = None if segments is None else jnp.asarray([segments], jnp.int32)
    assert pooled_positions(jnp.asarray([ids], jnp.int32), rows, pad).tolist() == [position]


def test_a_score_is_the_score_matrix_times_the_hidden_state():
    model = SequenceClassifier.from_config(REWARD)
    ids = jnp.asarray([[3, 4, 9], [9, 9, 8]], jnp.int32)
    hidden = model.hidden(ids)
    expected = jnp.stack([hidden[0, 1], hidden[1, 2]]) @ model.score[...].T
    np.testing.assert_allclose(model(ids), expected, atol=1e-6)


def test_logits_are_hidden_times_head():
    model = CausalLM.from_config(CONFIG)
    ids = jnp.asarray([[3, 4, 9]], jnp.int32)
    np.testing.assert_allclose(model(ids), model.hidden(ids) @ model.head_weights().T, atol=1e-6)
    tied = CausalLM.from_config(dataclasses.replace(CONFIG, tie_embeddings=True))
    assert tied.head_weights() is tied.embedding[...]


def test_an_attention_mask_is_short_for_segment_ids():
    model = CausalLM.from_config(CONFIG)
    ids, mask = jnp.asarray([[3, 4, 9, 9]], jnp.int32), jnp.asarray([[True, True, False, False]])
    np.testing.assert_array_equal(
        model(ids, attention_mask=mask), model(ids, segment_ids=jnp.asarray([[1, 1, 0, 0]], jnp.int32))
    )
    with pytest.raises(ValueError, match="`attention_mask` or `segment_ids`, not both"):
        model(ids, attention_mask=mask, segment_ids=jnp.ones((1, 4), jnp.int32))


def test_compute_dtype_is_cast_where_used_and_parameters_stay():
    model = CausalLM.from_config(CONFIG, dtype="bf16")
    ids = jnp.asarray([[3, 4, 9]], jnp.int32)
    assert model.hidden(ids).dtype == jnp.bfloat16
    assert model(ids).dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(split_params(model)[1])} == {"float32"}
    exact = CausalLM.from_config(CONFIG)
    np.testing.assert_allclose(model(ids), exact(ids), atol=0.02)


def test_dtypes_by_name():
    assert resolve_dtype("bf16") == jnp.bfloat16
    assert resolve_dtype(None) == jnp.float32  # tests run on CPU
    with pytest.raises(ConfigError, match="`dtype` is 'int8'; expected one of float32"):
        resolve_dtype("int8")
    with pytest.raises(ConfigError, match="`dtype` is 'flaot32'"):
        resolve_dtype("flaot32")


def test_split_and_join_give_the_same_model_also_inside_jit():
    model = CausalLM.from_config(CONFIG)
    structure, params = split_params(model)
    ids = jnp.asarray([[3, 4]], jnp.int32)
    run = jax.jit(lambda structure, params: join_params(structure, params)(ids), static_argnums=0)
    np.testing.assert_allclose(run(structure, params), model(ids), atol=1e-6)
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    assert join_params(structure, halves).head_weights().dtype == jnp.bfloat16


def test_parameters_are_plain_stacked_arrays():
    params = split_params(CausalLM.from_config(CONFIG))[1]
    assert params["embedding"].shape == (40, 16)
    assert params["layers"]["query"].shape == (2, 16, 16)
    assert params["layers"]["key"].shape == (2, 16, 8)
    assert params["layers"]["down"].shape == (2, 24, 16)
    assert nested(flattened(params)).keys() == params.keys()
    # 2 tables of 640; per layer 2 norms of 16, attention 16*16 + 2*16*8 + 16*16 + biases 16+8+8+16,
    # mlp 3*16*24 + biases 24+24+16; final norm 16
    assert count_parameters(params) == 1280 + 2 * (32 + 768 + 48 + 1152 + 64) + 16


def test_every_parameter_has_one_axis_name_per_dimension():
    for model in (CausalLM.from_config(CONFIG), SequenceClassifier.from_config(REWARD)):
        params = split_params(model)[1]
        axes = logical_axes(params)
        for path, array in flattened(params).items():
            assert len(flattened(axes)[path]) == array.ndim, path


def test_the_seed_decides_the_weights():
    one, same, other = (split_params(CausalLM.from_config(CONFIG, seed=seed))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["layers"]["query"], same["layers"]["query"])
    assert not np.array_equal(one["layers"]["query"], other["layers"]["query"])
    assert not np.array_equal(one["layers"]["query"][0], one["layers"]["query"][1])


def test_heads_and_configurations_must_match():
    with pytest.raises(ConfigError, match="use a SequenceClassifier"):
        CausalLM.from_config(REWARD)
    with pytest.raises(ConfigError, match="1 for a reward model"):
        SequenceClassifier.from_config(CONFIG)
