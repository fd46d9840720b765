"""Whether desirable and undesirable completions weigh about the same: told once a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

from easydel_trainers.algorithms.kto.config import KTOConfig
from easydel_trainers.preference.objective import DESIRABLE_SHARE
from easydel_trainers.run.callbacks import Callback

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView

_LOG = logging.getLogger(__name__)
_ENOUGH = 1000  # rows after which the shares are taken as known
_LOWEST, _HIGHEST = 1.0, 4 / 3


@final
class BalanceAdvice(Callback):
    """Warns if the rows that were trained on, and no others, show that the weights are off.

    Args:
        config: names the weights.
    """

    def __init__(self, config: KTOConfig):
        self._config = config
        self._advised = False

    def on_begin(self, run: RunView) -> None:
        """Every run is advised anew."""
        self._advised = False

    def on_step(self, run: RunView) -> None:
        """Looks whether enough is known."""
        self._advise_once(run, at_least=_ENOUGH)

    def on_end(self, run: RunView) -> None:
        """Takes what is known."""
        self._advise_once(run, at_least=1)

    def _advise_once(self, run: RunView, *, at_least: int) -> None:
        counted = run.metric(DESIRABLE_SHARE)
        desirable, rows = (0, 0) if counted is None else map(round, counted)
        if self._advised or rows < at_least:
            return
        self._advised, config = True, self._config
        advice = balance_advice(
            desirable,
            rows - desirable,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
        )
        if advice is not None:
            _LOG.warning(advice)


def balance_advice(
    desirable: int, undesirable: int, *, desirable_weight: float, undesirable_weight: float
) -> str | None:
    """Returns what is wrong with the weights for rows that were trained on, and what would mend it; `None` = nothing.

    The rule is that of Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, section 4.2: desirable_weight * n_d /
    (undesirable_weight * n_u) lies between 1 and 4/3.

    Args:
        desirable: n_d, rows.
        undesirable: n_u, rows.
        desirable_weight: of the loss.
        undesirable_weight: of the loss.

    >>> print(balance_advice(30, 10, desirable_weight=1.0, undesirable_weight=1.0).split(". ")[-1])
    Choose a desirable_weight between 0.33 and 0.44.
    """
    rows = desirable + undesirable
    if not rows:
        return None
    if not desirable or not undesirable:
        kind = "desirable" if desirable else "undesirable"
        return (
            f"All {rows} rows so far are {kind}: nothing is compared with anything. Look at the column `label` (true = "
            "desirable), or whether the file is sorted by it and not shuffled."
        )
    ratio = desirable_weight * desirable / (undesirable_weight * undesirable)
    if _LOWEST <= round(ratio, 2) <= round(_HIGHEST, 2):
        return None
    low, high = (bound * undesirable_weight * undesirable / desirable for bound in (_LOWEST, _HIGHEST))
    return (
        f"{desirable} desirable and {undesirable} undesirable completions with weights {desirable_weight} and "
        f"{undesirable_weight}: the classes weigh {ratio:.2f} to 1, where 1 to 1.33 is best. "
        f"Choose a desirable_weight between {low:.2f} and {high:.2f}."
    )
