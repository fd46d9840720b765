"""Every kind of layer on eight simulated devices, experts dealt out among them too: the step is that of one device."""

from __future__ import annotations

import pytest
from first_step import first_step
from small_models import KINDS, WITH_EXPERTS
from split_checks import assert_equal_steps, on_devices

MIXES = {
    "fsdp 8": {"fsdp": 8},
    "dp 2, tp 4": {"dp": 2, "fsdp": 1, "tp": 4},
    "fsdp 2, tp 2, sp 2": {"fsdp": 2, "tp": 2, "sp": 2},
}
OF_EXPERTS = {
    "ep 8": {"fsdp": 1, "ep": 8},
    "fsdp 2, ep 4": {"fsdp": 2, "ep": 4},
    "ep 4, tp 2": {"fsdp": 1, "ep": 4, "tp": 2},
    "dp 2, ep 2, sp 2": {"dp": 2, "fsdp": 1, "ep": 2, "sp": 2},
    "fsdp 2, ep 2, tp 2, two micro-batches": {"fsdp": 2, "ep": 2, "tp": 2, "gradient_accumulation_steps": 2},
    "ep 4, tp 2, rematerialised": {"fsdp": 1, "ep": 4, "tp": 2, "gradient_checkpointing": "full"},
}
CASES = [
    *((kind, mix) for kind in KINDS if kind != "dense" for mix in MIXES),
    *((kind, mix) for kind in WITH_EXPERTS for mix in OF_EXPERTS),
]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """The steps of one kind in all mixes, computed together in one program, and that of one device."""
    found = {}

    def of(kind):
        if kind not in found:
            mixes = [mix for layers, mix in CASES if layers == kind]
            jobs = [("SFT", {"layers": kind} | (MIXES | OF_EXPERTS)[mix]) for mix in mixes]
            mixed = on_devices(8, jobs, tmp_path_factory.mktemp("eight_devices"))
            found[kind] = first_step("SFT", layers=kind), dict(zip(mixes, mixed, strict=True))
        return found[kind]

    return of


@pytest.mark.parametrize(("kind", "mix"), CASES, ids=[" on ".join(case) for case in CASES])
def test_step(kind, mix, steps):
    alone, mixed = steps(kind)
    assert_equal_steps(mixed[mix], alone, what=f"{kind} on {mix}")
