"""The harness tells each thing that must not happen, and is itself ended by none of them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

EXPECTED = {
    "signal": "signal",
    "hang": "hang",
    "busy hang": "hang",
    "memory": "traceback",
    "foreign": "traceback",
    "printed traceback": "traceback",
    "long": "long",
    "control": "control",
    "secret said": "secret",
    "secret written": "secret",
    "outside": "outside",
    "outside through a link": "outside",
    "program": "let in",
    "accepted": "accepted",
    "refused": "refused",
}


@pytest.fixture(scope="module")
def faults():
    from bounded_process import run_corpus

    return run_corpus("broken_handlers", seconds=1.5)


@pytest.mark.parametrize(("case", "kind"), EXPECTED.items())
def test_each_fault_is_told(faults, case, kind):
    assert kind in {fault.kind for fault in faults if fault.case == case}


def test_good_ends_are_no_faults(faults):
    assert {fault.case for fault in faults} == EXPECTED.keys()
