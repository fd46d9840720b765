"""Eight simulated devices, in every mix of axes: the same loss and gradients as on one device, and memory divided."""

from __future__ import annotations

import pytest
from first_step import first_step
from split_checks import assert_equal_steps, on_devices

KINDS = ("SFT", "DPO", "DPO-aot", "KTO", "BCO", "Reward")
MIXES = {
    "8x1x1x1": {"dp": 8, "fsdp": 1},
    "1x8x1x1": {"fsdp": 8},
    "4x2x1x1": {"dp": 4, "fsdp": 2},
    "2x2x2x1": {"dp": 2, "fsdp": 2, "tp": 2},
    "1x4x2x1": {"fsdp": 4, "tp": 2},
    "1x2x4x1": {"fsdp": 2, "tp": 4},
    "1x2x2x2": {"fsdp": 2, "tp": 2, "sp": 2},
    "2x1x1x4": {"dp": 2, "fsdp": 1, "sp": 4},
    "1x1x4x2": {"fsdp": 1, "tp": 4, "sp": 2},
    "1x1x1x8": {"fsdp": 1, "sp": 8},
}
SPLIT = {"gradient_accumulation_steps": 2}
HALVES = {
    "2x2x2x1, two micro-batches": MIXES["2x2x2x1"] | SPLIT,
    "1x2x2x2, padded": MIXES["1x2x2x2"] | {"padding_free": False},
}
OPTIONS = {
    "packing": {"packing": True, "max_length": 12, "length_buckets": None},
    "adapters": {"lora": {"rank": 4}},
    "rematerialised": {"gradient_checkpointing": "full"},
}
"""What a step of SFT may have beside; each in the three mixes that cut different things."""
THREE = ("4x2x1x1", "2x2x2x1", "1x2x2x2")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The steps of one kind in every mix, computed together in one program."""
    found = {}

    def of(kind):
        if kind not in found:
            mixes = MIXES | HALVES
            jobs = [(kind, fields) for fields in mixes.values()]
            results = on_devices(8, jobs, tmp_path_factory.mktemp("eight_devices"))
            found[kind] = first_step(kind), dict(zip(mixes, results, strict=True))
        return found[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mix", [*MIXES, *HALVES])
def test_mix(kind, mix, steps):
    alone, mixed = steps(kind)
    assert_equal_steps(mixed[mix], alone, what=f"{kind} on {mix}")


@pytest.fixture(scope="module")
def with_options(tmp_path_factory):
    """SFT steps by option and mix, and by option alone."""
    cases = [(option, mix) for option in OPTIONS for mix in THREE]
    jobs = [("SFT", OPTIONS[option] | MIXES[mix]) for option, mix in cases]
    mixed = on_devices(8, jobs, tmp_path_factory.mktemp("options"))
    return dict(zip(cases, mixed, strict=True)), {name: first_step("SFT", **given) for name, given in OPTIONS.items()}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("mix", THREE)
def test_option_on_a_mix(option, mix, with_options):
    mixed, alone = with_options
    assert_equal_steps(mixed[option, mix], alone[option], what=f"{option} on {mix}")
