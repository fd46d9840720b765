"""Tokenized Parquet to numpy, beside Arrow alone on the same files."""

from __future__ import annotations

import tempfile

import numpy as np
import pyarrow.parquet as pq
from _figure import per_second, quick, show
from _rows import lengths
from easydata_tokenize import open_saved, save_iterator

BATCH = 1024


def main() -> None:
    sizes = lengths(5_000 if quick() else 60_000, 2048)
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = ({"input_ids": chance.integers(0, 49152, size, dtype=np.int32)} for size in sizes)
        stats = save_iterator(rows, folder, show_progress=False)
        saved = open_saved(folder)

        def arrow() -> int:
            return sum(
                len(batch.column(0).flatten().to_numpy())
                for path in stats.output_paths
                for batch in pq.ParquetFile(path).iter_batches(BATCH)
            )

        def ours() -> int:
            return sum(len(batch.column(0).flatten().to_numpy()) for batch in saved.batches(BATCH))

        assert arrow() == ours() == stats.num_tokens == int(sizes.sum())
        limit = per_second(arrow)
        show("Parquet to numpy by Arrow alone", limit, "tokens/s")
        note = "aim 0.7; HF datasets 27-37 M, EasyDeL 6.8 M tokens/s"
        show("tokenized Parquet to numpy batches", per_second(ours), "tokens/s", limit=limit, note=note)
        show("  lengths of all rows", per_second(lambda: len(saved.token_lengths())), "rows/s", note="no row read")


if __name__ == "__main__":
    main()
