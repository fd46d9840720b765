"""Shared by all tests of the trainers: a tiny model, a tiny tokenizer, rows."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import jax
import numpy as np
import pytest
from easydel_models import AutoEasyDeLModelForCausalLM, CausalLM, DecoderConfig
from easydel_trainers import Callback
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

jax.config.update("jax_numpy_rank_promotion", "raise")

VOCABULARY = 97
_COMPILED = "EASYDEL_TRAINERS_TESTS_COMPILED"


def pytest_configure(config: pytest.Config) -> None:
    """Compiling is most of the tests' time: do it lightly, and once for all the processes that run tests."""
    if _COMPILED not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ[_COMPILED] = folder.name
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", os.environ[_COMPILED])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(autouse=True)
def true_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is computed as such, whatever this CPU has instructions for."""
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "native")


@pytest.fixture(scope="session")
def break_off() -> type[Callback]:
    """Callbacks that break a run off behind a step, as a kill would, once what the step writes is written."""

    class BreakOff(Callback):
        def __init__(self, step: int):
            self.step = step

        def on_step(self, run):
            if run.step == self.step:
                raise KeyboardInterrupt

    return BreakOff


@pytest.fixture
def tiny_model() -> CausalLM:
    config = DecoderConfig(
        vocab_size=VOCABULARY,
        dim=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        mlp_dim=32,
        tie_embeddings=True,
        initializer_range=0.1,
        eos_token_ids=(2,),
        pad_token_id=2,
    )
    return AutoEasyDeLModelForCausalLM.from_config(config, seed=7)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words `w3` … `w96` for their own numbers; `<s>` 1, `</s>` 2 (also the pad token), `<unk>` 0."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@pytest.fixture(scope="session")
def text_rows() -> list[dict[str, Any]]:
    """Forty texts of 3 to 30 words in which each word is one more than the last: easy to learn."""
    rng = np.random.default_rng(11)
    rows = []
    for _ in range(40):
        start, length = int(rng.integers(3, 60)), int(rng.integers(3, 31))
        rows.append({"text": " ".join(f"w{start + k}" for k in range(length))})
    return rows


@pytest.fixture(scope="session")
def pair_rows() -> list[dict[str, Any]]:
    """Twenty-four pairs of very unequal lengths: where a mean of means, or a cut in the wrong place, would show."""
    rng = np.random.default_rng(5)

    def words(least: int, most: int) -> str:
        return " ".join(f"w{number}" for number in rng.integers(3, VOCABULARY, int(rng.integers(least, most))))

    return [{"prompt": words(2, 9), "chosen": " " + words(1, 14), "rejected": " " + words(1, 14)} for _ in range(24)]
