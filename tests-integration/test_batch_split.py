"""Promise 6: loss and gradients of a step do not depend on how its rows are split, for every trainer.

Eight rows in 1, 2, 4 and 8 micro-batches, and shared by two devices (a program of its own, since the number of devices
is fixed when JAX starts). Relative 1e-5, gradients in norm for each tensor.
"""

from __future__ import annotations

import pytest
from first_step import COUPLED, ROWS, TRAINERS, first_step
from split_checks import assert_equal_steps, on_devices
from thoroughness import thorough_but

KINDS = (*TRAINERS, *COUPLED)
# Of the default run. Pairs and unpaired answers are split in the tests of easydel-trainers too.
SPLIT = {"SFT", "Reward", "GRPO", "DPO-aot"}
SHARED = {"SFT", "KTO", "GRPO"}
EXPERTS = {"layers": "experts"}


pytestmark = pytest.mark.usefixtures("lightly_compiled")


@pytest.fixture(scope="module")
def whole():
    """The step in one micro-batch on one device, by kind."""
    found = {}
    return lambda kind: found[kind] if kind in found else found.setdefault(kind, first_step(kind))


@pytest.fixture(scope="module")
def two_devices(request, tmp_path_factory):
    """The steps of the kinds asked for; every other one shares its parameters too, the rest only the rows."""
    asked = {test.callspec.params.get("kind") for test in request.session.items if hasattr(test, "callspec")}
    kinds = [kind for kind in KINDS if kind in asked]
    jobs = {kind: (kind, {"fsdp": 2} if number % 2 else {"dp": 2, "fsdp": 1}) for number, kind in enumerate(kinds)}
    jobs["experts"] = ("SFT", EXPERTS | {"fsdp": 1, "ep": 2})
    found = on_devices(2, list(jobs.values()), tmp_path_factory.mktemp("two_devices"))
    return dict(zip(jobs, found, strict=True))


@pytest.mark.parametrize("micro_batches", thorough_but([2, 4, 8], {4}))
@pytest.mark.parametrize("kind", thorough_but(KINDS, SPLIT))
def test_micro_batches(kind, micro_batches, whole):
    split = first_step(kind, gradient_accumulation_steps=micro_batches)
    assert_equal_steps(split, whole(kind), what=f"{kind}, {ROWS // micro_batches} x {micro_batches}")


@pytest.mark.parametrize("kind", thorough_but(KINDS, SHARED))
def test_two_devices(kind, whole, two_devices):
    assert_equal_steps(two_devices[kind], whole(kind), what=f"{kind} on two devices")


def test_experts_shared_by_two_devices(two_devices):
    assert_equal_steps(two_devices["experts"], first_step("SFT", **EXPERTS), what="experts dealt out to two devices")
