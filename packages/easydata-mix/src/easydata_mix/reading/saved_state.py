"""The saved state of a mixture: a position, and enough about the mixture to refuse a state of another one.

    {"mixture": {"seed": 42, "block_size": 1000, "stop": "restart", "shares": "9f2c…", "shuffle": null},
     "block": 5000, "offset": 17, "phase": 0,
     "sources": {"web": {"consumed": 3000, "live": true, "pass": 0, "row": 3011, "at": {…}, "skip": 11}, …},
     "journal": [{"from_row": 2000, "weights": {…}}], "rows_per_step": 32, "tokens_per_row": null}

`consumed` counts a source's rows since the integral last started (row `phase`) up to the block's start: the one number
per source that exact shares need. `pass`, `row`, `at` and `skip` are the position in the source itself. Where weights
are shares of tokens a source also has its `credit` (see `token_quotas.py`); its position is that of the block's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from easydata_mix.errors import MixtureError
from easydata_mix.plan.steps import BlockStart, PlanPosition
from easydata_mix.plan.weights import listed
from easydata_mix.reading.position import MixturePosition, SourcePosition


def position_to_dict(position: MixturePosition, names: Sequence[str]) -> dict[str, Any]:
    """Returns a position as plain JSON types."""
    begin = position.plan.begin
    sources = {
        name: {"consumed": begin.consumed[index], "live": index in begin.live, **position.sources[index].to_dict()}
        for index, name in enumerate(names)
    }
    for name, credit in zip(names, begin.credit, strict=False):
        sources[name]["credit"] = str(credit)
    return {"block": begin.row, "offset": position.plan.offset, "phase": begin.phase, "sources": sources}


def position_from_dict(state: Mapping[str, Any], names: Sequence[str]) -> MixturePosition:
    """Returns the position of a saved state, or raises if it speaks of other sources."""
    if "sources" not in state or "block" not in state:
        raise MixtureError(
            f"This is not the state of a mixture: it has the keys {listed(sorted(state))}. "
            "Pass what .state() of a stream of this mixture returned."
        )
    entries = state["sources"]
    if set(entries) != set(names):
        raise MixtureError(
            f"The state was saved by a mixture of {listed(sorted(entries))}; this one has {listed(sorted(names))}. "
            "Build the mixture from the same sources."
        )
    begin = BlockStart(
        row=state["block"],
        phase=state["phase"],
        consumed=tuple(entries[name]["consumed"] for name in names),
        live=tuple(index for index, name in enumerate(names) if entries[name]["live"]),
        credit=tuple(Fraction(entries[name]["credit"]) for name in names if "credit" in entries[name]),
    )
    sources = tuple(SourcePosition.from_dict(entries[name]) for name in names)
    return MixturePosition(plan=PlanPosition(begin=begin, offset=state["offset"]), sources=sources)


def check_mixture(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Raises if a state was saved by a mixture that orders its rows differently."""
    differing = [key for key in present if saved.get(key) != present[key]]
    if not differing:
        return
    key = differing[0]
    mend = (
        "To change weights in the middle of a run use edit_weights(), which is recorded in the state."
        if key == "shares"
        else f"Build the mixture with {key}={saved.get(key)!r}."
    )
    raise MixtureError(
        f"The state was saved by a mixture with another `{key}`: {saved.get(key)!r} there, {present[key]!r} here. "
        f"Continuing would repeat and skip rows. {mend}"
    )
