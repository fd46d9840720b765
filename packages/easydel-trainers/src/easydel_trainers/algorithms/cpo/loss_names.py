"""Names of the losses of contrastive preference optimisation."""

from typing import Literal

CPOLossType = Literal["sigmoid", "hinge", "ipo", "simpo", "alphapo"]
