"""Names of the losses and divergences of direct preference optimisation."""

from typing import Literal, get_args

DPOLossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
]
FDivergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]

#: what a config may name: those, and the likelihood of the chosen answer
LOSS_TYPES: tuple[str, ...] = (*get_args(DPOLossType), "sft")
