"""Odds ratio preference optimisation: `ORPOConfig`, `ORPOTrainer`, `orpo_losses`."""
