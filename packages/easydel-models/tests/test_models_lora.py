"""Adapters against a model with the same weights written out, and their files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM
from easydel_models.adapters.config import LoraConfig
from easydel_models.adapters.lora import combine_params, merge_lora, split_trainable, with_lora, without_lora
from easydel_models.adapters.peft_files import load_adapter, save_adapter
from easydel_models.adapters.targets import adapted_kernels
from easydel_models.config import DecoderConfig
from easydel_models.errors import LoraError, ModelNotFoundError
from easydel_models.heads import CausalLM, SequenceClassifier
from easydel_models.layers.linear import LoraDropout, linear
from easydel_models.mesh.partitioning import logical_axes
from easydel_models.parameters import flattened, join_params, split_params

CONFIG = DecoderConfig(
    vocab_size=50, dim=24, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=40, initializer_range=0.3
)
LORA = LoraConfig(rank=4, alpha=6.0)
IDS = np.random.default_rng(0).integers(0, 50, (2, 9)).astype(np.int32)
KERNELS = ["query", "key", "value", "output", "gate", "up", "down"]


@jax.jit(static_argnames=("structure", "remat"))
def hidden(structure, params, key=None, *, remat="none"):
    return join_params(structure, params).hidden(jnp.asarray(IDS), remat=remat, dropout_key=key)


def hidden_of(model, key=None):
    return np.asarray(hidden(*split_params(model), key))


def adapted(lora=LORA, *, kind=CausalLM, config=CONFIG):
    """A model whose B are no longer 0."""
    model = with_lora(kind.from_config(config, seed=1), lora, seed=2)
    structure, params = split_params(model)
    rng = np.random.default_rng(3)
    layers = {
        name: jnp.asarray(0.1 * rng.standard_normal(array.shape), array.dtype) if name.endswith("_lora_b") else array
        for name, array in params["layers"].items()
    }
    return join_params(structure, {**params, "layers": layers})


@pytest.fixture(scope="module")
def model():
    return adapted()


def test_fresh_adapters_change_nothing_and_use_the_bases_arrays():
    base = CausalLM.from_config(CONFIG, seed=1)
    fresh = with_lora(base, LORA)
    np.testing.assert_array_equal(hidden_of(fresh), hidden_of(base))
    ours, theirs = flattened(split_params(fresh)[1]), flattened(split_params(base)[1])
    assert all(ours[path] is leaf for path, leaf in theirs.items())
    a = np.asarray(ours["layers.down_lora_a"])
    assert a.shape == (3, 40, 4)
    assert 0.8 / np.sqrt(40) < np.abs(a).max() <= 1 / np.sqrt(40)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_the_merged_model_has_w_plus_scaled_ab_and_computes_the_same(rslora, scale):
    model = adapted(dataclasses.replace(LORA, rslora=rslora, targets=("q_proj", "down")))
    merged = merge_lora(model)
    layers, whole = split_params(model)[1]["layers"], split_params(merged)[1]["layers"]
    for name in ("query", "down"):
        product = np.asarray(layers[name + "_lora_a"], np.float64) @ np.asarray(layers[name + "_lora_b"], np.float64)
        np.testing.assert_allclose(whole[name], np.asarray(layers[name]) + scale * product, atol=1e-6)
    assert whole["key"] is layers["key"]
    np.testing.assert_allclose(hidden_of(merged), hidden_of(model), atol=2e-5)
    assert np.abs(hidden_of(model) - hidden_of(without_lora(model))).max() > 0.1


def test_only_adapters_are_differentiated_and_every_one_gets_a_gradient(model):
    structure, params = split_params(model)
    trainable, frozen = split_trainable(params)
    assert sorted(trainable["layers"]) == sorted(name + end for name in KERNELS for end in ("_lora_a", "_lora_b"))
    assert not set(flattened(trainable)) & set(flattened(frozen))
    assert flattened(combine_params(trainable, frozen)).keys() == flattened(params).keys()

    def loss(trainable, remat):
        return jnp.sum(hidden(structure, combine_params(trainable, frozen), remat=remat) ** 3)

    grads, again = jax.grad(loss)(trainable, "none"), jax.grad(loss)(trainable, "full")
    for path, grad in flattened(grads).items():
        assert (np.abs(np.asarray(grad)).reshape(3, -1).max(axis=1) > 1e-4).all(), path
        np.testing.assert_allclose(grad, flattened(again)[path], rtol=1e-4, atol=1e-4)


def test_a_classifier_trains_its_score_too():
    model = adapted(kind=SequenceClassifier, config=dataclasses.replace(CONFIG, num_labels=2))
    trainable, frozen = split_trainable(split_params(model)[1])
    assert "score" in trainable
    assert "score" not in frozen
    whole = split_params(without_lora(model))[1]
    assert split_trainable(whole) == (whole, {})


def test_dropout_leaves_out_the_share_asked_for_and_follows_its_key_alone():
    model = adapted(dataclasses.replace(LORA, dropout=0.5, targets=("q_proj",)))
    first, again, other = (hidden_of(model, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(hidden_of(model), hidden_of(adapted(dataclasses.replace(LORA, targets=("q_proj",)))))
    # What is kept is scaled up, so that on average nothing changes.
    kernel, a, b = jnp.zeros((1000, 2)), jnp.ones((1000, 1)), jnp.ones((1, 2))
    layer = {
        "w": kernel,
        "w_lora_a": a,
        "w_lora_b": b,
        "lora_dropout": LoraDropout(jax.random.key(0), jnp.float32(0.25)),
    }
    drawn = np.asarray(linear(layer, "w", jnp.ones((1, 8, 1000))))
    kept = drawn[0, :, 0] * 0.75
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-2)
    assert 700 < kept.mean() < 800
    assert len(np.unique(np.round(kept))) > 4


def test_generation_uses_the_adapters(model):
    prompts = [IDS[0].tolist()]
    ours, whole = (m.generate(prompts, max_new_tokens=3, eos_token_id=[]) for m in (model, merge_lora(model)))
    assert ours.token_ids == whole.token_ids
    np.testing.assert_allclose(ours.logprobs, whole.logprobs, atol=1e-4)
    logits = np.asarray(without_lora(model)(jnp.asarray(IDS[:1])))[0, -1]
    off = logits[ours.token_ids[0][0]] - np.log(np.exp(logits).sum())
    assert abs(off - ours.logprobs[0][0]) > 1e-2


def test_saved_as_a_model_the_adapters_are_merged(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AutoEasyDeLModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.lora is None
    np.testing.assert_allclose(hidden_of(loaded), hidden_of(model), atol=2e-5)


def test_saved_as_adapters_they_come_back_bit_for_bit(model, tmp_path):
    save_adapter(tmp_path / "adapter", model, base_model="org/base")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    again = load_adapter(tmp_path / "adapter", without_lora(model))
    assert again.lora.scale == model.lora.scale
    np.testing.assert_array_equal(hidden_of(again), hidden_of(model))


def test_a_classifiers_score_travels_with_its_adapters(tmp_path):
    config = dataclasses.replace(CONFIG, num_labels=2)
    model = adapted(dataclasses.replace(LORA, targets=("up_proj",)), kind=SequenceClassifier, config=config)
    save_adapter(tmp_path, model)
    other = SequenceClassifier.from_config(config, seed=5)
    loaded = load_adapter(tmp_path, other)
    np.testing.assert_array_equal(loaded.score[...], model.score[...])
    assert np.abs(np.asarray(other.score[...]) - np.asarray(model.score[...])).max() > 0.1


def test_targets_choose_layers_by_their_hugging_face_name():
    assert adapted_kernels(CONFIG, LORA) == [f"layers.{name}" for name in KERNELS]
    assert adapted_kernels(CONFIG, LoraConfig(targets=["q_proj", "v_proj"])) == ["layers.query", "layers.value"]
    assert adapted_kernels(CONFIG, LoraConfig(targets=["mlp"])) == ["layers.gate", "layers.up", "layers.down"]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["lm_head"], ["lm_head", "matches no linear layer", "self_attn.q_proj"]),
        (["layers.1.self_attn.q_proj"], ["1 of 3 layers", "layers.1.self_attn.q_proj"]),
    ],
)
def test_targets_that_fit_no_stack_are_refused(targets, words):
    with pytest.raises(LoraError) as error:
        with_lora(CausalLM.from_config(CONFIG), LoraConfig(targets=targets))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("field", "value"), [("rank", 0), ("alpha", 0.0), ("dropout", 1.0), ("targets", "q_proj"), ("targets", ["("])]
)
def test_fields_out_of_range_are_named(field, value):
    with pytest.raises(LoraError, match=field.removesuffix("s")):
        LoraConfig(**{field: value})


def test_adapting_an_adapted_model_is_refused(model):
    with pytest.raises(LoraError, match="already"):
        with_lora(model, LORA)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, ["use_dora", "merge"]),
        ({"rank_pattern": {"q_proj": 8}}, ["rank_pattern"]),
        ({"peft_type": "IA3"}, ["IA3", "LORA"]),
        ({"r": 8}, ["q_proj.lora_A.weight", "(4, 24)", "(8, 24)"]),
    ],
)
def test_adapters_that_would_compute_something_else_are_refused(model, change, words, tmp_path):
    save_adapter(tmp_path, model)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LoraError) as error:
        load_adapter(tmp_path, without_lora(model))
    assert all(word in str(error.value) for word in words)


def test_adapters_of_another_model_or_none_are_refused(model, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"adapter_config\.json"):
        load_adapter(tmp_path, without_lora(model))
    save_adapter(tmp_path, model)
    with pytest.raises(LoraError, match="another base model"):
        load_adapter(tmp_path, CausalLM.from_config(dataclasses.replace(CONFIG, num_layers=4)))
    with pytest.raises(LoraError, match="14 tensors that fit nothing"):
        load_adapter(tmp_path, CausalLM.from_config(dataclasses.replace(CONFIG, num_layers=2)))
    with pytest.raises(LoraError, match="no adapters to write"):
        save_adapter(tmp_path, without_lora(model))


def test_every_adapter_has_logical_axes(model):
    params = split_params(model)[1]
    axes = logical_axes(params)
    assert axes["layers"]["down_lora_a"] == ("layers", "mlp", "rank")
    assert axes["layers"]["down_lora_b"] == ("layers", "rank", "embed")
    assert all(len(axes["layers"][name]) == array.ndim for name, array in params["layers"].items())


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_adapters_that_were_taken_out_of_the_base_give_the_model_that_was_trained(init, rslora, tmp_path):
    """PEFT trains them beside W - s A0 B0, and computes that from W again when it loads them."""
    lora = dataclasses.replace(LORA, rslora=rslora)
    model = adapted(lora)
    save_adapter(tmp_path, model)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": init}))
    base = without_lora(model)
    loaded = load_adapter(tmp_path, base)
    held, merged = split_params(model)[1]["layers"], split_params(merge_lora(loaded))[1]["layers"]
    for name in KERNELS:
        for layer in range(CONFIG.num_layers):
            kernel, a, b = (np.asarray(held[name + part][layer]) for part in ("", "_lora_a", "_lora_b"))
            if init == "pissa":
                left, values, right = np.linalg.svd(kernel)
                first = left[:, : lora.rank] * values[: lora.rank] @ right[: lora.rank]
            else:
                q, r = np.linalg.qr(kernel.T)
                first = lora.scale * (q[:, : lora.rank] @ r[: lora.rank]).T
            expected = kernel - first + lora.scale * a @ b
            np.testing.assert_allclose(merged[name][layer], expected, atol=1e-4)
    np.testing.assert_array_equal(hidden_of(without_lora(loaded)), hidden_of(base))
    save_adapter(tmp_path / "again", loaded)
    again = load_adapter(tmp_path / "again", base)
    np.testing.assert_allclose(hidden_of(again), hidden_of(loaded), atol=1e-5)


@pytest.mark.parametrize("init", ["corda", "loftq", "lora_ga", "pissa_niter_4", "wonder"])
def test_initialisations_that_change_the_base_beyond_repair_are_refused(model, init, tmp_path):
    save_adapter(tmp_path, model)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": init}))
    with pytest.raises(LoraError, match=f"init_lora_weights.*{init}.*merge them with peft"):
        load_adapter(tmp_path, without_lora(model))


def test_adapters_are_not_written_into_a_whole_models_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(LoraError, match="holds a whole model"):
        save_adapter(tmp_path, model)
