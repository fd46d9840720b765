"""Reading that fails: asked again, a stream comes to the failure again, and no row is lost in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from easydata_sources import MemoryShardedSource, Row, ShardedDataSource


class Failing(ShardedDataSource):
    """Two shards of ten rows, the first of which fails so often at its fifth row."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    @property
    def shard_names(self) -> Sequence[str]:
        return ["a", "b"]

    def open_shard(self, name: str) -> Iterator[Row]:
        for number in range(10):
            if (name, number) == ("a", 5) and self.failures:
                self.failures -= 1
                raise OSError("gone")
            yield {"id": f"{name}{number}"}


def test_a_source_of_ones_own_goes_on_at_the_row_that_failed() -> None:
    whole = [f"{name}{number}" for name in "ab" for number in range(10)]
    stream = Failing(2).rows()
    seen = [next(stream)["id"] for _ in range(5)]
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            next(stream)
    state = stream.state()
    assert seen + [row["id"] for row in stream] == whole
    assert [row["id"] for row in Failing(0).rows(state)] == whole[5:]


FAILURES: list[Exception] = []
"""Errors that are still to come."""


def flaky(row: Row) -> Row:
    if row["id"] == 7 and FAILURES:
        raise FAILURES.pop(0)
    return row


@pytest.mark.parametrize(
    "view",
    [
        lambda source: source.map(flaky),
        lambda source: source.filter(flaky),
        lambda source: source.map(flaky).shuffle(1),
        lambda source: source.map(flaky).limit(19),
        lambda source: source.shard(0, 1).map(flaky),
        lambda source: source.filter(flaky).map(dict),
    ],
)
def test_a_function_that_fails_at_a_row_is_given_that_row_again(
    view: Callable[[ShardedDataSource], ShardedDataSource],
) -> None:
    FAILURES.clear()
    source = view(MemoryShardedSource([{"id": number} for number in range(20)]))
    whole = [row["id"] for row in source]
    FAILURES[:] = [OSError("first"), OSError("second")]
    stream = source.rows()
    seen: list[int] = []
    for message in ("first", "second"):
        with pytest.raises(OSError, match=message):
            seen.extend(row["id"] for row in stream)
    assert seen == whole[: whole.index(7)]
    state = stream.state()
    assert seen + [row["id"] for row in stream] == whole
    assert seen + [row["id"] for row in source.rows(state)] == whole
