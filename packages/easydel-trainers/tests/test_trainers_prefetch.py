"""The reading-ahead thread: order, errors, an end that does not hang."""

from __future__ import annotations

import threading
import time

import pytest
from easydel_trainers.data.prefetch import Prefetched


def test_items_come_in_order():
    with Prefetched(iter(range(20)), depth=3) as items:
        assert list(items) == list(range(20))


def test_an_error_reaches_the_consumer_after_the_items_before_it():
    def failing():
        yield 1
        raise OSError("disk gone")

    seen = []
    with Prefetched(failing()) as items, pytest.raises(OSError, match="disk gone"):
        seen.extend(items)
    assert seen == [1]


def test_leaving_early_ends_the_thread():
    def endless():
        while True:
            yield 0

    with Prefetched(endless()) as items:
        assert next(iter(items)) == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_a_slow_source_is_waited_for_not_taken_for_the_end():
    def slow():
        yield 1
        time.sleep(0.3)
        yield 2

    with Prefetched(slow()) as items:
        assert list(items) == [1, 2]


def test_no_more_than_depth_items_are_read_ahead():
    read = []

    def counting():
        for k in range(10):
            read.append(k)
            yield k

    with Prefetched(counting(), depth=2) as items:
        next(iter(items))
        time.sleep(0.3)
        assert len(read) <= 4  # one given, two waiting, one in hand
