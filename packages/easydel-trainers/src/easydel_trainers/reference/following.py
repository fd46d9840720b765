"""A reference model that follows the policy every so many steps (TR-DPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

from easydel_trainers.reference.model import ReferenceModel
from easydel_trainers.run.callbacks import Callback

if TYPE_CHECKING:
    from easydel_trainers.run.view import RunView


class FollowingOptions(Protocol):
    """What a config says of it."""

    @property
    def ref_model_mixup_alpha(self) -> float:
        """Share of the policy in the reference at each sync."""
        ...

    @property
    def ref_model_sync_steps(self) -> int:
        """Steps between two syncs."""
        ...


@final
class Following(Callback):
    """Moves the reference towards the policy.

    Args:
        reference: held beside the policy.
        options: how far, and how often.
    """

    def __init__(self, reference: ReferenceModel, options: FollowingOptions):
        self._reference, self._options = reference, options

    def on_step(self, run: RunView) -> None:
        """Sync where one is due."""
        if run.step % self._options.ref_model_sync_steps == 0:
            self._reference.follow(run.params, alpha=self._options.ref_model_mixup_alpha)
