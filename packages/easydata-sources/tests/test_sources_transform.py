from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from easydata_sources import (
    BatchTransform,
    ChainedTransform,
    DataError,
    DataFormatError,
    ExpandTransform,
    MemoryShardedSource,
    Row,
    RowError,
    Transform,
)


def source(count: int = 10) -> MemoryShardedSource:
    return MemoryShardedSource([{"id": i} for i in range(count)], name="toy")


class Add(Transform):
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, row: Row) -> Row:
        return {"id": row["id"] + self.amount}


class Twice(ExpandTransform):
    def __call__(self, row: Row) -> Iterator[Row]:
        yield row
        yield {"id": -row["id"]}


class RefuseSeven(BatchTransform):
    def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
        for index, row in enumerate(rows):
            if abs(row["id"]) == 7:
                raise RowError(
                    "Seven is refused.", row_in_batch=index, column="id", found="7", expected="another", mend="use 8"
                )
        return [[row] for row in rows]


def test_none_drops_a_row() -> None:
    kept = source(5).transform(lambda row: row if row["id"] != 2 else None)
    assert [row["id"] for row in kept] == [0, 1, 3, 4]


def test_chains_work_in_every_order_of_kinds() -> None:
    assert [row["id"] for row in source(2).transform(Add(1) >> Twice())] == [1, -1, 2, -2]
    assert [row["id"] for row in source(2).transform(Twice() >> Add(1))] == [1, 1, 2, 0]
    assert [row["id"] for row in source(2).transform(Twice() >> Twice())] == [0, 0, 0, 0, 1, -1, -1, 1]
    assert [row["id"] for row in source(2).transform((lambda row: row) >> Add(5))] == [5, 6]
    assert len(ChainedTransform([Add(1) >> Add(2), Twice()]).transforms) == 3


def test_a_transform_that_changes_its_row_does_not_change_the_data() -> None:
    rows = [{"id": 1}]

    def spoil(row: Row) -> Row:
        row["id"] = 99
        return row

    toy = MemoryShardedSource(rows).map(spoil)
    assert list(toy) == [{"id": 99}]
    assert rows == [{"id": 1}]


def test_a_single_row_goes_through_a_batch_transform() -> None:
    assert RefuseSeven()({"id": 3}) == {"id": 3}


@pytest.mark.parametrize("limit", [10, 400])
def test_a_row_error_names_shard_and_row_of_the_source(limit: int) -> None:
    shifted = source(limit).filter(lambda row: row["id"] % 2).transform(Twice()).transform(RefuseSeven())
    with pytest.raises(RowError) as caught:
        list(shifted.rows())
    error = caught.value
    assert (error.file, error.row) == ("toy", 7)
    assert "column: id" in str(error)
    assert "mend: use 8" in str(error)


def test_a_batch_that_failed_is_not_passed_over() -> None:
    stream = source(600).transform(RefuseSeven()).rows()
    for _ in range(2):
        with pytest.raises(RowError, match="row: 7"):
            next(stream)
        assert stream.state() == {"source": {"shard": 0, "row": 0}, "consumed": 0}


def test_a_row_error_inside_a_chain_and_a_shuffle_names_the_original_row() -> None:
    with pytest.raises(RowError) as caught:
        list(source(600).shuffle(1).transform(Twice() >> RefuseSeven()).rows())
    assert (caught.value.file, caught.value.row) == ("toy", 7)
    with pytest.raises(RowError) as caught:
        list(source(600).transform(Twice() >> RefuseSeven()).open_shard("toy"))
    assert (caught.value.file, caught.value.row) == ("toy", 7)


def test_other_errors_keep_their_type_and_get_the_place_as_a_note() -> None:
    def fails(row: Row) -> Row:
        return {"id": row["missing"]} if row["id"] == 4 else row

    with pytest.raises(KeyError) as caught:
        list(source().map(fails).rows())
    notes = "\n".join(caught.value.__notes__)
    assert "fails" in notes
    assert "row 4 of toy" in notes
    assert "fields id" in notes


def test_something_else_than_a_row_is_refused_with_the_way_out() -> None:
    with pytest.raises(RowError, match=r"found: list(.|\n)*subclass ExpandTransform"):
        list(source().map(lambda row: [row]).rows())  # type: ignore[arg-type,return-value]


def test_map_keeps_every_row_and_so_the_length() -> None:
    doubled = source(5).map(lambda row: {"id": 2 * row["id"]})
    assert len(doubled) == len(doubled.rename_fields({"id": "x"})) == 5
    with pytest.raises(RowError, match=r"returned None(.|\n)*row: 2(.|\n)*\.filter\(predicate\)"):
        list(source(5).map(lambda row: row if row["id"] != 2 else None).rows())  # type: ignore[arg-type,return-value]


def test_rows_stepped_over_are_not_mapped() -> None:
    seen: list[int] = []
    stream = source(10).map(lambda row: seen.append(row["id"]) or row).rows()
    assert stream.skip(8) == 8
    assert [row["id"] for row in stream] == seen == [8, 9]


def test_fields_of_batches_are_moved_as_columns() -> None:
    rows = MemoryShardedSource([{"a": 1, "b": 2, "c": 3}, {"b": 5}])
    batch = next(rows.select_fields(["c", "b"]).rename_fields({"b": "x"}).batches())
    assert batch.to_pylist() == [{"c": 3, "x": 2}, {"c": None, "x": 5}]


def test_a_batch_transform_must_answer_for_every_row() -> None:
    class Loses(BatchTransform):
        def transform_batch(self, rows: Sequence[Row]) -> list[list[Row]]:
            return [[row] for row in rows[1:]]

    with pytest.raises(DataFormatError, match="9 for 10 rows"):
        list(source().transform(Loses()).rows())


def test_a_class_or_a_value_instead_of_a_transform_is_refused() -> None:
    with pytest.raises(DataError, match=r"must be an instance(.|\n)*Twice\("):
        source().transform(Twice)
    with pytest.raises(DataError, match="must be callable"):
        source().transform(5)


def test_fields_are_selected_dropped_and_renamed() -> None:
    rows = MemoryShardedSource([{"a": 1, "b": 2, "c": 3}, {"b": 5}])
    assert list(rows.select_fields(["b", "a"])) == [{"b": 2, "a": 1}, {"b": 5}]
    assert list(rows.drop_fields(["a", "c"])) == [{"b": 2}, {"b": 5}]
    assert list(rows.rename_fields({"b": "x"})) == [{"a": 1, "x": 2, "c": 3}, {"x": 5}]


def test_a_renaming_that_would_lose_a_field_is_refused() -> None:
    rows = MemoryShardedSource([{"a": 1, "b": 2}])
    with pytest.raises(DataError, match="overwrite the field b"):
        list(rows.rename_fields({"a": "b"}).rows())
    with pytest.raises(DataError, match="same name"):
        rows.rename_fields({"a": "x", "b": "x"})
    with pytest.raises(DataError, match="list of field names"):
        rows.select_fields("ab")


def test_limits() -> None:
    assert len(source().limit(3)) == 3
    assert len(source().limit(99)) == 10
    assert list(source().limit(0)) == []
    assert [batch.num_rows for batch in source().limit(7).batches(5)] == [5, 2]
    with pytest.raises(DataError, match="-1 rows"):
        source().limit(-1)


def test_the_length_after_a_filter_is_unknown() -> None:
    with pytest.raises(TypeError, match=r"limit\(n\)"):
        len(source().filter(bool))
    assert source().filter(bool)
