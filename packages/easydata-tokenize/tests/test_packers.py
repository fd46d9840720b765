import gc

import numpy as np
import pytest
from easydata_tokenize import FirstFitPacker, GreedyPacker, PoolPacker
from hypothesis import given
from hypothesis import strategies as st

EOS, PAD = 1, 7
DOCUMENTS = st.lists(st.lists(st.integers(10, 99), max_size=25), max_size=30)


def drained(packer, documents, **columns):
    """All rows of a packer, in the order it gives them."""
    rows = []
    for number, tokens in enumerate(documents):
        given_back = packer.add(tokens, number, **{name: make(tokens) for name, make in columns.items()})
        rows += given_back if isinstance(given_back, list) else [given_back]
    if isinstance(packer, GreedyPacker):
        while (row := packer.flush_final()) is not None:
            rows.append(row)
    else:
        rows += packer.flush_all()
    return [row for row in rows if row is not None]


def segments(rows, name="input_ids"):
    """The documents' parts with their sources, by source, in the order of the rows."""
    found = {}
    for row in rows:
        for number, source in enumerate(row.source_ids, start=1):
            found.setdefault(source, []).extend(row[name][row["segment_ids"] == number].tolist())
    return found


@pytest.mark.parametrize("make", [GreedyPacker, PoolPacker, FirstFitPacker])
@given(documents=DOCUMENTS, seq_length=st.integers(1, 12))
def test_every_token_comes_out_once_with_its_label_in_rows_of_one_length(make, documents, seq_length):
    rows = drained(make(seq_length, EOS, PAD), documents, labels=lambda tokens: [-100, *tokens][1:])
    expected = {number: [*tokens, EOS] for number, tokens in enumerate(documents) if tokens}
    assert {source: sorted(tokens) for source, tokens in segments(rows).items()} == {
        source: sorted(tokens) for source, tokens in expected.items()
    }
    assert segments(rows, "labels") == segments(rows)
    for row in rows:
        assert {column.shape for column in row.to_dict().values()} == {(seq_length,)}
        padded = row["segment_ids"] == 0
        np.testing.assert_array_equal(row["attention_mask"], 1 - padded)
        assert set(row["input_ids"][padded].tolist()) <= {PAD}
        assert set(row["labels"][padded].tolist()) <= {-100}
        assert row.num_segments == row["segment_ids"].max() == len(row.source_ids)
        for number in range(1, row.num_segments + 1):
            inside = row["position_ids"][row["segment_ids"] == number]
            np.testing.assert_array_equal(inside, np.arange(len(inside)))


@given(documents=DOCUMENTS)
def test_greedy_rows_are_full_but_the_last_and_keep_the_order(documents):
    rows = drained(GreedyPacker(8, EOS, PAD), documents)
    whole = [token for tokens in documents if tokens for token in [*tokens, EOS]]
    assert [token for row in rows for token in row["input_ids"][row["segment_ids"] > 0].tolist()] == whole
    assert len(rows) == -(-len(whole) // 8)


@pytest.mark.parametrize("make", [PoolPacker, FirstFitPacker])
@given(documents=DOCUMENTS)
def test_documents_that_fit_are_never_cut(make, documents):
    rows = drained(make(26, EOS, PAD), documents)
    places = [source for row in rows for source in row.source_ids]
    assert len(places) == len(set(places))


def test_a_long_document_waits_row_by_row():
    packer = GreedyPacker(3, EOS, PAD)
    first = packer.add([10, 11, 12, 13, 14, 15, 16, EOS])  # its own end: none is added
    rest = [packer.flush_final() for _ in range(3)]
    assert [row["input_ids"].tolist() for row in (first, *rest[:2])] == [[10, 11, 12], [13, 14, 15], [16, 1, 7]]
    assert rest[2] is None


def test_all_rows_of_a_long_document_are_given_at_once_or_those_left_are_told(caplog):
    packer = GreedyPacker(3, EOS, PAD)
    first = packer.add(list(range(10, 20)))
    assert [row["input_ids"].tolist() for row in (first, *packer.flush_all())] == [
        [10, 11, 12],
        [13, 14, 15],
        [16, 17, 18],
        [19, EOS, PAD],
    ]
    assert (packer.flush_all(), packer.flush_final()) == ([], None)
    del packer
    assert not caplog.records
    packer = GreedyPacker(3, EOS, PAD)
    packer.add(list(range(10, 20)))
    packer.flush_final()
    del packer
    gc.collect()
    assert "2 packed rows were left" in caplog.text


def test_an_end_that_is_added_is_trained_as_the_token_before_it():
    packer = GreedyPacker(6, EOS, PAD, include_segment_ids=False)
    packer.add([10, 11], labels=[-100, 11], weights=[0.0, 0.5])
    row = packer.add([12], labels=[-100], weights=[1.0]) or packer.flush_final()
    assert row.to_dict().keys() == {"input_ids", "attention_mask", "position_ids", "labels", "weights"}
    assert row["labels"].tolist() == [-100, 11, EOS, -100, -100, -100]
    assert row["weights"].tolist() == [0.0, 0.5, 0.5, 1.0, 1.0, 0.0]


def test_a_pool_prefers_the_fullest_row_that_holds_a_document():
    packer = PoolPacker(8, EOS, PAD, num_packers=2)
    assert packer.add([10] * 5) + packer.add([11] * 3) == []  # 6 and 4 of 8 used, with their ends
    (full,) = packer.add([12])
    assert full["input_ids"].tolist() == [10] * 5 + [EOS, 12, EOS]
    assert packer.add([13] * 4) == []
    (fullest,) = packer.add([14] * 5)  # fits neither: the fuller one goes
    assert fullest["input_ids"].tolist() == [13] * 4 + [EOS, 7, 7, 7]


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="one value for each token"):
        GreedyPacker(4, EOS).add([1, 2], labels=[1])
    packer = FirstFitPacker(9, EOS)
    packer.add([2], labels=[2])
    packer.add([3])
    with pytest.raises(ValueError, match="columns of the first"):
        packer.flush_all()
    with pytest.raises(ValueError, match="seq_length"):
        PoolPacker(0, EOS)
    with pytest.raises(ValueError, match="num_packers"):
        PoolPacker(4, EOS, num_packers=0)
    with pytest.raises(ValueError, match="buffer_size"):
        FirstFitPacker(4, EOS, buffer_size=0)
