"""Resuming a mixture far into a run: the time from a saved state to the next row."""

from __future__ import annotations

import json

from _figure import quick, seconds, show
from easydata_mix import MixedShardedSource
from easydata_sources import MemoryShardedSource
from easydata_sources.shuffling import permutation

ROW = 10**9


def main() -> None:
    tries = 3 if quick() else 20
    sources = {f"source_{index}": rows_of(index, 1000 + 37 * index) for index in range(10)}
    for name, options in {"in order": {}, "shuffled": {"seed": 1}}.items():

        def build(options: dict = options) -> MixedShardedSource:
            mixture = MixedShardedSource(sources, [1 + index % 4 for index in range(10)])
            return mixture.shuffle(**options) if options else mixture

        stream = build().rows()
        stream.skip(ROW)
        state = json.dumps(stream.state())
        expected = next(stream)

        def resume(state: str = state, build=build) -> dict:
            permutation._whole.cache_clear()  # a run that begins has computed no order yet
            return next(build().rows(json.loads(state)))

        assert resume() == expected
        show(f"resume at row 10^9, {name}", 1000 * seconds(resume, tries=tries), "ms", note="aim < 10")


def rows_of(source: int, count: int) -> MemoryShardedSource:
    return MemoryShardedSource([{"n": number, "source": source} for number in range(count)], name=str(source))


if __name__ == "__main__":
    main()
