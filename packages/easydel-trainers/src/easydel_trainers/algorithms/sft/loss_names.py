"""Names of the losses of supervised fine-tuning."""

from typing import Literal

SFTLossType = Literal["nll", "dft"]
