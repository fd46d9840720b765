"""Being asked to stop while nothing is trained yet: at once, with the exit code of a run that can go on, never lost."""

from __future__ import annotations

import os
import signal
import time
import weakref

import pytest
from easydel_trainers import Interrupted, SFTConfig, SFTTrainer
from easydel_trainers.algorithms.sft.algorithm import SFT
from easydel_trainers.run.interruption import STOP_SIGNALS, StopAtOnce
from easydel_trainers.run.signals import StopSignals


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal():
    """A process started in the background may be told to ignore Ctrl-C, and so would be what it starts."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def tell(number: int) -> None:
    os.kill(os.getpid(), number)


def tell_in_vain(number: int) -> None:
    """Raised in a callback that a finalizer calls, an exception is printed and forgotten."""

    class Thing:
        pass

    thing = Thing()
    weakref.finalize(thing, lambda: tell(number)).atexit = False
    del thing


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_while_loading_ends_it_at_once_with_75(number, tiny_model, tokenizer, text_rows, monkeypatch):
    before = signal.getsignal(number)
    monkeypatch.setattr(SFT, "load_model", lambda algorithm, model: tell(number))
    with pytest.raises(Interrupted) as caught:
        SFTTrainer(tiny_model, SFTConfig(), processing_class=tokenizer, train_dataset=text_rows)
    assert (caught.value.code, caught.value.reason) == (75, number.name)
    assert signal.getsignal(number) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_is_lost_is_raised_again_and_at_the_end_at_the_latest(capsys):
    with pytest.raises(Interrupted, match="Stopped by SIGINT"), StopAtOnce():
        tell_in_vain(signal.SIGINT)
    began = time.monotonic()

    def load():
        with StopAtOnce():
            tell_in_vain(signal.SIGTERM)
            time.sleep(30)

    with pytest.raises(Interrupted, match="Stopped by SIGTERM"):
        load()
    assert time.monotonic() - began < 15


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_is_lost_is_raised_before_the_first_step():
    def train():
        with StopAtOnce():
            tell_in_vain(signal.SIGTERM)
            with StopSignals():
                pytest.fail("the run began")

    with pytest.raises(Interrupted):
        train()


def test_a_second_interrupt_and_errors_of_others_are_what_they_are():
    def twice():
        with StopAtOnce():
            try:
                tell(signal.SIGINT)
            finally:
                tell(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    with pytest.raises(ValueError, match="of others"), StopAtOnce():
        raise ValueError("of others")


def test_signals_that_somebody_handles_are_left_to_them():
    heard, before = [], signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with StopAtOnce():
            tell(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
