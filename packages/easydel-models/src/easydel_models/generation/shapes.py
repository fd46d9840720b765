"""The few sizes that arrays of generation come in, so that many lengths of prompts share a few compiled programs."""

_CACHE_SHARE = 16
"""Attending over slots nobody uses may cost a step about one part in so many of what reading its weights costs."""
_FEWEST_SLOTS, _MOST_SLOTS = 64, 2048
"""Bounds on the step in which a cache grows."""


def at_least(value: int, smallest: int = 1) -> int:
    """Returns the smallest size of 1, 2, 3, 4, 6, 8, 12, 16, 24, … times ``smallest`` that is not below ``value``."""
    units = max(-(-value // smallest), 1)
    power = power_of_two(units)
    return smallest * (power * 3 // 4 if power >= 4 and units <= power * 3 // 4 else power)


def power_of_two(value: int) -> int:
    """Returns the smallest power of two that is not below ``value``, which is at least 1."""
    return 1 << (value - 1).bit_length()


def pieces(count: int, most: int) -> list[int]:
    """Cuts ``count`` into sizes of 1, 4, 16, 64, …, none above ``most``, the largest first.

    >>> pieces(23, most=8192)
    [16, 4, 1, 1, 1]
    """
    size = 4 ** max((min(count, most).bit_length() - 1) // 2, 0)
    return [size, *pieces(count - size, most)] if count else []


def cache_step(rows: int, slot_bytes: int, weight_bytes: int) -> int:
    """Returns slots by which a cache of so many rows grows: few for a large batch, whose cache is read for as long as
    its weights, many for a small one, where growing would only compile more programs.

    Args:
        rows: Of the cache.
        slot_bytes: Keys and values of one row's token, all layers.
        weight_bytes: Read by one step.
    """
    slots = max(weight_bytes // (_CACHE_SHARE * rows * slot_bytes), 1)
    return min(max(power_of_two(slots), _FEWEST_SLOTS), _MOST_SLOTS)
