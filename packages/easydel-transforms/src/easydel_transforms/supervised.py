"""Supervised fine-tuning: rows of any layout to `{"input_ids", "labels"}`.

What is trained, unless told otherwise, is what TRL trains: every token of text and messages, the completion of rows
that have a prompt of their own. Nothing is padded here; the trainer pads whole batches.

With SmolLM2's tokenizer `{"prompt": "1 + 1 =", "completion": " 2"}` becomes

    input_ids  33 1232 216 33 446 216 34 2      "1" " +" " " "1" " =" " " "2" "<|im_end|>"
    labels     -100 -100 -100 -100 -100 216 34 2
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, final, get_args

import numpy as np
from easydata_sources.errors import DataFormatError, RowError
from easydata_sources.report import DataReport
from easydata_sources.transforms.transform import CountingTransform
from easydata_tokenize import (
    SFT_LAYOUTS,
    ChatExample,
    ChatTokenizer,
    EncodedRow,
    Example,
    RowEncoder,
    TokenExample,
    TruncationMode,
    as_int32,
    kept_tokens,
    located,
    read_example,
)
from numpy.typing import NDArray

from easydel_transforms.labels import (
    IGNORE_INDEX,
    TokenView,
    labels_of_encoded,
    labels_of_tokens,
    trains_nothing,
)
from easydel_transforms.reasons import excerpt

__all__ = ["SFTPreprocessTransform"]

Row = dict[str, Any]


@final
class SFTPreprocessTransform(CountingTransform):
    """Turns rows into tokens and labels for supervised fine-tuning.

    The layout is found for every row by itself (`easydata_tokenize.layouts`). Strings get the EOS text at their end if
    it is not there; conversations end as the chat template ends them. Rows in which nothing is left to train are
    dropped; everything dropped or altered is counted in `report`, and past the report's thresholds that is an error.

    Args:
        tokenizer: A fast tokenizer; conversations need its chat template.
        max_length: Most tokens of a row, at least 2; None = rows are never cut.
        completion_only_loss: Whether only completions are trained. None = in rows with a prompt of their own.
        assistant_only_loss: Train only what the assistant says, stop tokens included. Every row must then be a
            conversation in which the assistant speaks. In prompt/completion rows both masks hold.
        dataset_text_field: Column to read as plain text whatever else a row has; None = by layout.
        truncation_mode: Which end of a row that is too long is kept.
        drop_unrendered: Kinds (`reasoning`, `system`, …) that are not counted as `not_rendered/KIND` where the template
            does not print them.
        report: Counter to use; None = a new one.

    Output rows are `{"input_ids": int32[tokens], "labels": int32[tokens]}`, -100 where nothing is trained, and keep the
    `segment_ids` of rows that are packs of several documents already. Counted
    are `truncated`, `fully_masked` (nothing left to train: dropped), `dropped_empty`, and the notes of
    `easydata_tokenize.EncodedRow`.

    Raises:
        ValueError: If an argument is out of range.
        DataFormatError: If `assistant_only_loss` is asked of a tokenizer without a usable chat template.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        max_length: int | None = 1024,
        *,
        completion_only_loss: bool | None = None,
        assistant_only_loss: bool = False,
        dataset_text_field: str | None = None,
        truncation_mode: TruncationMode = "keep_start",
        drop_unrendered: Collection[str] = (),
        report: DataReport | None = None,
    ) -> None:
        if max_length is not None and max_length < 2:
            raise ValueError(
                f"`max_length` must be at least 2 (one token to read, one to predict) or None; found {max_length}.\n"
                "  mend: max_length=1024, or None to keep rows of any length"
            )
        if truncation_mode not in get_args(TruncationMode):
            raise ValueError(
                f"`truncation_mode` must be one of {', '.join(get_args(TruncationMode))}; found {truncation_mode!r}."
            )
        self.report = report if report is not None else DataReport()
        self._max_length = max_length
        self._truncation_mode: TruncationMode = truncation_mode
        self._completion_only_loss = completion_only_loss
        self._assistant_only_loss = assistant_only_loss
        self._text_field = dataset_text_field
        self._encoder = RowEncoder(tokenizer, assistant_masks=assistant_only_loss, drop_unrendered=drop_unrendered)

    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Returns the tokenized row for every row, or an empty list where it was dropped.

        Raises:
            RowError: If a row has no known layout, or cannot be rendered or masked as asked.
            DataQualityError: If more rows are lost or altered than `report` allows.
        """
        outputs = self._transform(rows, self.report)
        self.report.check()
        return outputs

    def explain(self, row: Row) -> list[TokenView]:
        """Returns every token of the row as it would be trained on: its id, its text, and whether it is trained.

        Nothing is counted. A row that would be dropped as fully masked is shown with nothing trained.
        """
        (outputs,) = self._transform([row], DataReport(), drop=False)
        if not outputs:
            return []
        ids, labels = outputs[0]["input_ids"], outputs[0]["labels"]
        texts = self._encoder.decode_each(ids)
        return [
            TokenView(int(token), text, bool(label != IGNORE_INDEX))
            for token, text, label in zip(ids, texts, labels, strict=True)
        ]

    def _transform(self, rows: Sequence[Row], report: DataReport, *, drop: bool = True) -> list[list[Row]]:
        report.saw(len(rows))
        examples = [located(index, self._read, row) for index, row in enumerate(rows)]
        encoded = self._encode(examples)
        outputs: list[list[Row]] = []
        for index, example in enumerate(examples):
            if _is_empty(example):
                report.count("dropped_empty", example=excerpt(rows[index]))
                outputs.append([])
                continue
            ids, labels = located(index, self._label, example, encoded.get(index))
            reasons = list(encoded[index].notes) if index in encoded else []
            kept = kept_tokens(len(ids), self._max_length, self._truncation_mode)
            if kept.stop - kept.start < len(ids):
                reasons.append("truncated")
            ids, labels = ids[kept], labels[kept]
            output = {"input_ids": ids, "labels": labels, **located(index, _segments, rows[index], example, kept)}
            masked = trains_nothing(labels)
            for reason in [*reasons, "fully_masked"] if masked else reasons:
                report.count(reason, example=excerpt(rows[index]))
            outputs.append([] if masked and drop else [output])
        return outputs

    def _read(self, row: Row) -> Example:
        return read_example(row, SFT_LAYOUTS, has_template=self._encoder.has_template, text_field=self._text_field)

    def _encode(self, examples: Sequence[Example]) -> dict[int, EncodedRow]:
        """Returns the encoded rows by their index in the batch, all of them through the tokenizer at once."""
        to_encode = {
            index: example
            for index, example in enumerate(examples)
            if not isinstance(example, TokenExample) and not _is_empty(example)
        }
        indices = list(to_encode)
        try:
            encoded = self._encoder.encode(list(to_encode.values()))
        except RowError as error:
            error.row_in_batch = indices[error.row_in_batch]
            raise
        return dict(zip(indices, encoded, strict=True))

    def _label(self, example: Example, encoded: EncodedRow | None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if isinstance(example, TokenExample):
            labels = labels_of_tokens(example, self._completion_only_loss, self._assistant_only_loss)
            return example.input_ids, labels
        assert encoded is not None
        return encoded.input_ids, labels_of_encoded(encoded, self._completion_only_loss)


def _segments(row: Row, example: Example, kept: slice) -> Row:
    """Returns the segment ids of a row that was packed before; nothing for others."""
    if not isinstance(example, TokenExample) or row.get("segment_ids") is None:
        return {}
    segments = np.asarray(row["segment_ids"])
    if row.get("attention_mask") is not None and len(segments) == len(row["attention_mask"]):
        segments = segments[np.asarray(row["attention_mask"]) != 0]  # padding of the pack, which its tokens lost too
    if segments.shape != example.input_ids.shape or segments.dtype.kind not in "iu":
        raise DataFormatError(
            "Segment ids do not fit the tokens.",
            column="segment_ids",
            found=f"shape {list(segments.shape)} of {segments.dtype}",
            expected=f"one whole number for each of the {len(example.input_ids)} tokens",
            mend="pack rows with PackedShardedSource, which writes them, or drop the column",
        )
    return {"segment_ids": as_int32(segments[kept], "segment_ids", least=0)}


def _is_empty(example: Example) -> bool:
    if isinstance(example, TokenExample):
        return len(example.input_ids) == 0
    if isinstance(example, ChatExample):
        return not example.messages
    return not example.text and not example.prompt
