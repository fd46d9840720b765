"""Chats to tokens: rows through the template and the tokenizer, beside the bare tokenizer on rendered text."""

from __future__ import annotations

from _figure import per_second, quick, show
from _rows import TOKENIZER, chats, pairs
from easydata_tokenize import TokenizeTransform, load_tokenizer
from easydel_transforms import DPOPreprocessTransform, SFTPreprocessTransform

BATCH = 256


def main() -> None:
    tokenizer = load_tokenizer(TOKENIZER)
    rows = chats(512 if quick() else 4096)
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    backend = tokenizer.backend_tokenizer

    def bare() -> int:
        batches = (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))
        return sum(
            len(row.ids) for batch in batches for row in backend.encode_batch_fast(batch, add_special_tokens=False)
        )

    def ours(transform) -> int:
        batches = (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))
        return sum(len(row["input_ids"]) for batch in batches for (row,) in transform.transform_batch(batch))

    whole = TokenizeTransform(tokenizer, max_length=None)
    assert ours(whole) == bare()
    limit = per_second(bare)
    per_row = bare() / len(rows)
    show("bare encode_batch_fast on ready text", limit, "tokens/s", note=f"{per_row:.0f} tokens a row")
    speed = per_second(lambda: ours(whole))
    show("chat rows templated and tokenized", speed, "tokens/s", limit=limit, note="aim 0.7; TRL 1.16: 0.18")
    show("  the same", speed / per_row, "rows/s", note="TRL 1.16: 1,020 on 2 cores")
    trained = SFTPreprocessTransform(tokenizer, max_length=1024)
    show("rows for SFT, cut at 1024", per_second(lambda: ours(trained)), "tokens/s", limit=limit)

    preferences = pairs(256 if quick() else 2048)
    transform = DPOPreprocessTransform(tokenizer, max_length=1024)

    def prepared() -> int:
        for at in range(0, len(preferences), BATCH):
            transform.transform_batch(preferences[at : at + BATCH])
        return len(preferences)

    show("preference rows for DPO", per_second(prepared), "rows/s", note="aim 4,128 on real pairs of 300 tokens")


if __name__ == "__main__":
    main()
