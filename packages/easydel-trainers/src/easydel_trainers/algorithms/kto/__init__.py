"""Kahneman-Tversky optimisation: `KTOConfig`, `KTOTrainer`, `kto_losses`."""
