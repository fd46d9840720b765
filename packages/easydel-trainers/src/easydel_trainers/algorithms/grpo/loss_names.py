"""Names of the losses of group-relative policy optimisation, and of what their ratios are of."""

from typing import Literal

GRPOLossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"]
RatioLevel = Literal["token", "sequence"]
