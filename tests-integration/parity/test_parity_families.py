"""Every family: what we write of it is loaded by `transformers`, adapters by `peft`, with the same numbers under torch.

Runs in an environment of its own (`nox -s parity`). Each case begins with a model that transformers made, which is
read, changed and written here. In families with experts adapters of attention, experts and routers are compared: peft
takes those of a module called `gate_proj` for the experts' there, also where a layer without experts has one.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np
import peft
import pytest
import torch
import transformers
from easydel_models import AutoEasyDeLModelForCausalLM, LoraConfig, load_adapter, save_adapter, with_lora
from easydel_models.layers.linear import LORA_B
from easydel_models.parameters import flattened, nested, split_params, update_params
from transformers.pytorch_utils import Conv1D

# peft asks transformers by a name that transformers has replaced.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),  # GPT-2's, and set by peft then
    # peft obeys it for parameters too, and looks for it among modules alone.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
]

TOLERANCE = 2e-4
CONFIGS = json.loads(Path(__file__).with_name("small_configs.json").read_text(encoding="utf-8"))
ROWS = [np.random.default_rng(length).integers(3, 300, size=(1, length)).astype(np.int32) for length in (21, 13, 5)]


@pytest.fixture(params=CONFIGS, scope="module")
def made(request, tmp_path_factory):
    """A folder that transformers wrote, and the class of its model."""
    return made_by_transformers(CONFIGS[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(
    params=[
        name for name, config in CONFIGS.items() if re.search(r"'(num|num_local|n_routed)_experts': \d", str(config))
    ]
)
def with_experts(request, tmp_path):
    """The same of those with experts."""
    folder = tmp_path / "base"
    folder.mkdir()
    return made_by_transformers(CONFIGS[request.param], folder)


def made_by_transformers(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    kind = getattr(transformers, config["architectures"][0])
    torch.manual_seed(0)
    model = kind._from_config(transformers.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return kind, folder


def loaded(kind, folder):
    model, report = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[found] for found in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def torch_logits(model):
    with torch.no_grad():
        return [model(input_ids=torch.tensor(row)).logits.numpy() for row in ROWS]


def assert_equal(ours, expected):
    for row, wanted in zip(ROWS, expected, strict=True):
        assert np.abs(wanted).max() > 0.05, "the comparison would be empty"
        np.testing.assert_allclose(np.asarray(ours(row)), wanted, atol=TOLERANCE, rtol=0)


def changed(model, ending, change):
    """The model with other values for all parameters of that ending."""
    flat = flattened(split_params(model)[1])
    update_params(model, nested({path: change(one) for path, one in flat.items() if path.endswith(ending)}))
    return model


def test_folder(made, tmp_path):
    kind, folder = made
    ours = changed(AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32"), "", lambda one: one * 1.125)
    ours.save_pretrained(tmp_path)
    assert_equal(ours, torch_logits(loaded(kind, tmp_path)))


ATTENTION = r"(self_attn|linear_attn)\."


def test_our_adapters_in_peft(made, tmp_path):
    kind, folder = made
    base = AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32")
    targets = [ATTENTION] if has_experts(base) else ["."]
    rng = np.random.default_rng(5)
    ours = changed(
        with_lora(base, LoraConfig(rank=4, alpha=16, targets=targets), seed=3),
        LORA_B,
        lambda one: jax.numpy.asarray(rng.standard_normal(one.shape) * 0.1, one.dtype),
    )
    save_adapter(tmp_path, ours, base_model=str(folder))
    theirs = loaded(kind, folder)
    before = torch_logits(theirs)[0]
    expected = torch_logits(peft.PeftModel.from_pretrained(theirs, tmp_path).eval())
    assert np.abs(expected[0] - before).max() > 0.01, "the adapters do nothing: the comparison would be empty"
    assert_equal(ours, expected)


IN_EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


def test_our_adapters_of_experts_in_peft(with_experts, tmp_path):
    kind, folder = with_experts
    base = AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32")
    rng = np.random.default_rng(5)
    ours = changed(
        with_lora(base, LoraConfig(rank=3, alpha=9, targets=["o_proj"], target_parameters=IN_EXPERTS), seed=3),
        LORA_B,
        lambda one: jax.numpy.asarray(rng.standard_normal(one.shape) * 0.1, one.dtype),
    )
    save_adapter(tmp_path, ours, base_model=str(folder))
    theirs = loaded(kind, folder)
    expected = torch_logits(peft.PeftModel.from_pretrained(theirs, tmp_path).eval())
    assert_equal(ours, expected)


def test_pefts_adapters_of_experts_here(with_experts, tmp_path):
    kind, folder = with_experts
    theirs = loaded(kind, folder)
    before = torch_logits(theirs)[0]
    routers = [name for name, _ in theirs.named_parameters() if re.search(r"mlp\.(gate|router)\.weight$", name)]
    parameters = [*IN_EXPERTS, *(".".join(name.split(".")[-3:]) for name in routers[:1])]
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=[], target_parameters=parameters, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(theirs, config).eval()
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path)
    ours = load_adapter(tmp_path, AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32"))
    expected = torch_logits(adapted)
    assert np.abs(expected[0] - before).max() > 0.01, "the adapters do nothing: the comparison would be empty"
    assert_equal(ours, expected)


def test_pefts_adapters_here(made, tmp_path):
    kind, folder = made
    base = AutoEasyDeLModelForCausalLM.from_pretrained(folder, dtype="float32")
    theirs = loaded(kind, folder)
    before = torch_logits(theirs)[0]
    modules = [name for name in linear_of_text(theirs) if not has_experts(base) or re.search(ATTENTION, name)]
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=modules, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(theirs, config).eval()
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path)
    ours = load_adapter(tmp_path, base)
    expected = torch_logits(adapted)
    assert np.abs(expected[0] - before).max() > 0.01, "the adapters do nothing: the comparison would be empty"
    assert_equal(ours, expected)


def has_experts(model):
    return any(layer.feed_forward.num_experts() for layer in model.config.all_layers)


def linear_of_text(model):
    """Names of the linear layers in the text model's layers."""
    for name, module in model.named_modules():
        of_a_layer = ".layers." in name or ".h." in name
        if isinstance(module, torch.nn.Linear | Conv1D) and of_a_layer and not re.search("vision|visual", name):
            yield name
