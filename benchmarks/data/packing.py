"""Packing: rows in columns to rows of one length, beside copying the same columns."""

from __future__ import annotations

import numpy as np
from _figure import per_second, quick, show
from _rows import lengths
from easydata_tokenize import pack_columns

LENGTH, WINDOW = 2048, 4096


def main() -> None:
    drawn = [lengths(WINDOW, LENGTH, seed=seed) for seed in range(2 if quick() else 12)]
    chance = np.random.default_rng(0)
    windows = [(sizes, chance.integers(0, 49152, sizes.sum(), dtype=np.int32)) for sizes in drawn]
    tokens = sum(len(ids) for _, ids in windows)

    def copied() -> int:
        for _, ids in windows:
            for _ in range(3):  # tokens, segments, positions
                ids.copy()
        return tokens

    limit = per_second(copied)
    show("copying three columns", limit, "tokens/s")
    for strategy in ("best_fit", "first_fit", "greedy"):
        packs = 0

        def packed(strategy=strategy) -> int:
            nonlocal packs
            packs = 0
            for sizes, ids in windows:
                _, starts = pack_columns({"input_ids": ids}, sizes, LENGTH, strategy=strategy)
                packs += len(starts) - 1
            return tokens

        speed = per_second(packed)
        note = f"{tokens / (packs * LENGTH):.2%} full, no row cut" + (
            "; aim 50 M, 99.5 %" if strategy == "best_fit" else ""
        )
        show(f"packing, {strategy}", speed, "tokens/s", limit=limit, note=note)


if __name__ == "__main__":
    main()
