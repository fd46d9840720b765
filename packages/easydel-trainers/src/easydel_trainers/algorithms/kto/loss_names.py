"""Names of the losses of Kahneman-Tversky optimisation."""

from typing import Literal

KTOLossType = Literal["kto", "apo_zero_unpaired"]
