"""The families that are known, by the ``model_type`` of their config.json."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from easydel_models.errors import ConfigError
from easydel_models.families.cohere2 import COHERE2
from easydel_models.families.deepseek import DEEPSEEK_V3, GLM4_MOE, GLM4_MOE_LITE
from easydel_models.families.family import Family
from easydel_models.families.gemma import GEMMA, GEMMA2, GEMMA3_TEXT
from easydel_models.families.gemma4 import GEMMA4_TEXT
from easydel_models.families.glm4 import GLM4
from easydel_models.families.gpt2 import GPT2
from easydel_models.families.gpt_oss import GPT_OSS
from easydel_models.families.granite import GRANITE
from easydel_models.families.lfm2 import LFM2
from easydel_models.families.llama import LLAMA, MISTRAL
from easydel_models.families.ministral3 import MINISTRAL3
from easydel_models.families.moe import MIXTRAL, OLMOE, QWEN2_MOE, QWEN3_MOE
from easydel_models.families.olmo import OLMO2, OLMO3
from easydel_models.families.phi3 import PHI3
from easydel_models.families.qwen import QWEN2, QWEN2_5_VL_TEXT, QWEN3, QWEN3_VL_TEXT
from easydel_models.families.qwen_hybrid import QWEN3_5_MOE_TEXT, QWEN3_5_TEXT, QWEN3_NEXT
from easydel_models.families.smollm3 import SMOLLM3
from easydel_models.families.wrappers import WRAPPERS
from easydel_models.safe_text import quoted

_ALL = (
    COHERE2,
    DEEPSEEK_V3,
    GEMMA,
    GEMMA2,
    GEMMA3_TEXT,
    GEMMA4_TEXT,
    GLM4,
    GLM4_MOE,
    GLM4_MOE_LITE,
    GPT2,
    GPT_OSS,
    GRANITE,
    LFM2,
    LLAMA,
    MINISTRAL3,
    MISTRAL,
    MIXTRAL,
    OLMO2,
    OLMO3,
    OLMOE,
    PHI3,
    QWEN2,
    QWEN2_5_VL_TEXT,
    QWEN2_MOE,
    QWEN3,
    QWEN3_5_MOE_TEXT,
    QWEN3_5_TEXT,
    QWEN3_MOE,
    QWEN3_NEXT,
    QWEN3_VL_TEXT,
    SMOLLM3,
)
FAMILIES: Mapping[str, Family] = MappingProxyType({family.model_type: family for family in _ALL})


def family_of(model_type: str | None) -> Family:
    """Returns the family that config.json calls ``model_type``.

    Raises:
        ConfigError: If no family of that name is known.
    """
    if model_type is not None and model_type in FAMILIES:
        return FAMILIES[model_type]
    known = (*FAMILIES, *WRAPPERS)
    near = difflib.get_close_matches(str(model_type), known, n=3, cutoff=0.5)
    hint = f"; nearest by name: {', '.join(near)}" if near else ""
    raise ConfigError(
        f"`model_type` is {quoted(model_type)}{hint}; the families known are {', '.join(sorted(known))}. "
        "docs/how-to/add-a-model-family.md says how one is added."
    )
