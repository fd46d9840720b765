"""Which rows go together into one packed row: arithmetic on lengths alone.

>>> plan = plan_packs(np.array([3, 4, 1]), 4, "best_fit")
>>> plan.order.tolist(), plan.starts.tolist()  # rows 1 | 0, 2
([1, 0, 2], [0, 1, 3])
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackPlan", "PackingStrategy", "plan_packs"]

PackingStrategy: TypeAlias = Literal["best_fit", "first_fit", "greedy", "wrapped"]
"""`best_fit`: longest first, each into the fullest pack that holds it (Best Fit Decreasing); fills best.
`first_fit`: in order, each into the first pack that holds it. `greedy`: in order, a new pack where the present one is
full. `wrapped`: all rows end to end, cut wherever a pack is full."""

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PackPlan:
    """Rows by pack.

    Attributes:
        order: numbers of the rows, pack after pack; every row once.
        starts: where each pack begins in `order`, with its end behind: int64 `[packs + 1]`.
    """

    order: Counts
    starts: Counts


def plan_packs(lengths: Counts, capacity: int, strategy: Literal["best_fit", "first_fit", "greedy"]) -> PackPlan:
    """Returns which rows share a pack.

    Args:
        lengths: tokens of each row, 1 to `capacity`.
        capacity: most tokens of a pack.
        strategy: how packs are chosen.

    Raises:
        ValueError: if a length is out of range.
    """
    if len(lengths) and (lengths.min() < 1 or lengths.max() > capacity):
        raise ValueError(f"Rows to pack have 1 to {capacity} tokens; found {lengths.min()} to {lengths.max()}.")
    if strategy == "greedy":
        return _greedy(np.asarray(lengths, np.int64), capacity)
    order = np.argsort(-lengths, kind="stable") if strategy == "best_fit" else np.arange(len(lengths))
    choose = _best_fit if strategy == "best_fit" else _first_fit
    packs = np.fromiter(choose(lengths[order].tolist(), capacity), np.int64, len(lengths))
    by_pack = np.argsort(packs, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(packs, minlength=0))]).astype(np.int64)
    return PackPlan(order[by_pack].astype(np.int64), starts)


def _greedy(lengths: Counts, capacity: int) -> PackPlan:
    ends = np.cumsum(lengths)
    starts = [0]
    while starts[-1] < len(lengths):
        before = ends[starts[-1] - 1] if starts[-1] else 0
        starts.append(int(np.searchsorted(ends, before + capacity, side="right")))
    return PackPlan(np.arange(len(lengths)), np.array(starts, np.int64))


def _best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Returns every row's pack: the one with the least room that suffices, the oldest of equals, else a new one."""
    packs: list[int] = []
    with_room: list[deque[int]] = [deque() for _ in range(capacity + 1)]
    # The rooms that some pack has are the bits of one integer, so that the smallest sufficient room is one shift and
    # one lowest bit away, whatever the number of packs.
    rooms, count = 0, 0
    for length in lengths:
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            same = with_room[room]
            pack = same.popleft()
            if not same:
                rooms ^= 1 << room
        else:
            pack, room = count, capacity
            count += 1
        left = room - length
        if left:
            with_room[left].append(pack)
            rooms |= 1 << left
        packs.append(pack)
    return packs


def _first_fit(lengths: list[int], capacity: int) -> list[int]:
    """Returns the pack of every row: the first with room, by a tree of the largest room below each node."""
    size = 1 << max(len(lengths) - 1, 1).bit_length()
    rooms = [capacity] * (2 * size)
    packs: list[int] = []
    for length in lengths:
        node = 1
        while node < size:
            node *= 2
            if rooms[node] < length:
                node += 1
        packs.append(node - size)
        rooms[node] -= length
        while node > 1:
            node //= 2
            left, right = rooms[2 * node], rooms[2 * node + 1]
            rooms[node] = left if left > right else right
    return packs
