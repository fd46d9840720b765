"""Published models have as many parameters here as `transformers` gives them on its meta device."""

import pytest
import torch
from easydel_models import DecoderConfig
from published_models import DEFAULTS, PUBLISHED, parameters
from transformers import AutoConfig, AutoModelForCausalLM

ALL = PUBLISHED | DEFAULTS


@pytest.mark.parametrize("name", ALL)
def test_as_many_parameters(name):
    config = AutoConfig.for_model(**ALL[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert parameters(DecoderConfig.from_hf(ALL[name])) == sum(one.numel() for one in model.parameters())
