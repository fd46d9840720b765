"""`easydel doctor`: what is installed, what it runs on, and whether a small model learns here."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import final

from easydel.cli.huge_pages import memory_pages
from easydel.cli.output.errors import EXIT_GOAL_MISSED, EXIT_OK, OUR_PACKAGES
from easydel.cli.settings.command_line import parse_flags

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "numpy", "pyarrow")

#: extra -> a module that it brings, what it is for
_EXTRAS = {
    "hf": ("datasets", "Hugging Face data sets"),
    "s3": ("s3fs", "Amazon S3 and its likes"),
    "gcs": ("gcsfs", "Google Cloud Storage"),
    "abfs": ("adlfs", "Azure storage"),
    "gguf": ("gguf", ".gguf models"),
    "ray": ("ray", "preprocessing over machines"),
    "tensorboard": ("tensorboardX", "report_to: tensorboard"),
    "wandb": ("wandb", "report_to: wandb"),
    "trackio": ("trackio", "report_to: trackio"),
    "udm": ("sklearn", "BCO's distribution matching"),
}


@final
@dataclass(frozen=True, kw_only=True)
class DoctorFlags:
    """Say what is installed and what it runs on, and train a tiny model for a moment.

    Ends with 1 if the tiny model does not learn.
    """

    json: bool = False
    """Print everything as one line of JSON."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What was found."""

    python: str
    platform: str
    packages: dict[str, str]
    libraries: dict[str, str]
    devices: list[str]
    bfloat16: str
    memory_pages: str
    extras: dict[str, bool]
    self_test: dict[str, float]
    healthy: bool


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(DoctorFlags, words, command=f"easydel {command}")
    health = examined()
    if flags.json:
        from easydel.cli.output.console import print_json

        print_json(asdict(health))
    else:
        _print(health)
    return EXIT_OK if health.healthy else EXIT_GOAL_MISSED


def examined() -> Health:
    """Looks at this installation and this machine."""
    import jax
    from easydel_models.cpu_bfloat16 import bfloat16_advice

    test = _self_test()
    return Health(
        python=f"{sys.version.split()[0]} ({sys.executable})",
        platform=platform.platform(),
        packages=_versions(sorted(name.replace("_", "-") for name in OUR_PACKAGES)),
        libraries=_versions(_LIBRARIES),
        bfloat16=bfloat16_advice(),
        memory_pages=memory_pages(),
        devices=[f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        extras={name: find_spec(module) is not None for name, (module, _) in _EXTRAS.items()},
        self_test=test,
        healthy=test["last_loss"] < test["first_loss"],
    )


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _self_test() -> dict[str, float]:
    """Trains a model of a few thousand numbers on rows that count; it learns to, or something is broken."""
    from easydel_models import AutoEasyDeLModelForCausalLM, DecoderConfig
    from easydel_trainers import SFTConfig, SFTTrainer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    began = time.perf_counter()
    words = {"<end>": 0} | {str(number): number for number in range(1, 32)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
    shape = DecoderConfig(
        vocab_size=32, dim=16, num_layers=1, num_heads=2, num_kv_heads=1, mlp_dim=32, eos_token_ids=(0,)
    )
    rows = [{"text": " ".join(str(first + step) for step in range(8))} for first in range(1, 24)]
    config = SFTConfig(
        max_training_steps=12,
        total_batch_size=8,
        learning_rate=3e-2,
        length_buckets=[128],
        gradient_checkpointing="none",
        log_steps=1,
        progress_bar=False,
    )
    model = AutoEasyDeLModelForCausalLM.from_config(shape)
    losses = [
        record["loss"]
        for record in SFTTrainer(model, config, processing_class=tokenizer, train_dataset=rows).train().history
    ]
    return {"first_loss": losses[0], "last_loss": losses[-1], "seconds": time.perf_counter() - began}


def _print(health: Health) -> None:
    from rich.table import Table
    from rich.text import Text

    from easydel.cli.output.console import harmless_console

    console = harmless_console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("python", health.python)
    table.add_row("platform", health.platform)
    for heading, found in (("packages", health.packages), ("libraries", health.libraries)):
        table.add_row(heading, Text(", ".join(f"{name} {number}" for name, number in found.items())))
    table.add_row("devices", Text(", ".join(health.devices)))
    table.add_row("bfloat16", Text(health.bfloat16))
    table.add_row("memory pages", Text(health.memory_pages))
    for name, there in health.extras.items():
        table.add_row(f"extra {name}", f"{'yes' if there else 'no '}  {_EXTRAS[name][1]}")
    test = health.self_test
    verdict = "it learns" if health.healthy else "IT DOES NOT LEARN: something in this installation is broken"
    table.add_row(
        "self-test",
        f"loss {test['first_loss']:.3f} to {test['last_loss']:.3f} in {test['seconds']:.1f} s: {verdict}",
    )
    console.print(table)
