"""Whether desirable and undesirable completions weigh about the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

_LOG = logging.getLogger(__name__)
_ENOUGH = 1000  # rows after which the shares are taken as known
_LOWEST, _HIGHEST = 1.0, 4 / 3


@final
class ClassBalance:
    """Counts labels, and says once how the weights should be if they are not.

    The rule is that of Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, section 4.2: desirable_weight * n_d /
    (undesirable_weight * n_u) lies between 1 and 4/3.

    Args:
        desirable_weight: of the loss.
        undesirable_weight: of the loss.
    """

    def __init__(self, desirable_weight: float, undesirable_weight: float):
        self._weights = desirable_weight, undesirable_weight
        self._desirable = self._rows = 0
        self._advised = False

    def saw(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count rows that have a `label`."""
        self._rows += len(rows)
        self._desirable += sum(bool(row["label"]) for row in rows)

    def advise_once(self, *, at_the_end: bool) -> None:
        """Log a warning if enough rows, or all there are, show that the weights are off. At most once."""
        if self._advised or not (at_the_end or self._rows >= _ENOUGH):
            return
        self._advised = True
        if advice := self.advice():
            _LOG.warning(advice)

    def advice(self) -> str | None:
        """What is wrong with the weights for the rows seen, and what would mend it; `None` = nothing."""
        desirable, undesirable = self._desirable, self._rows - self._desirable
        if not desirable or not undesirable:
            kind = "desirable" if desirable else "undesirable"
            return (
                f"All {self._rows} rows so far are {kind}: nothing is compared with anything. Look at the column "
                "`label` (true = desirable), or whether the file is sorted by it and not shuffled."
            )
        for_desirable, for_undesirable = self._weights
        ratio = for_desirable * desirable / (for_undesirable * undesirable)
        if _LOWEST <= round(ratio, 2) <= round(_HIGHEST, 2):
            return None
        low, high = (bound * for_undesirable * undesirable / desirable for bound in (_LOWEST, _HIGHEST))
        return (
            f"{desirable} desirable and {undesirable} undesirable completions with weights {for_desirable} and "
            f"{for_undesirable}: the classes weigh {ratio:.2f} to 1, where 1 to 1.33 is best. "
            f"Choose a desirable_weight between {low:.2f} and {high:.2f}."
        )
