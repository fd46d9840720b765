"""Direct preference optimisation: `DPOConfig`, `DPOTrainer`, `dpo_losses`."""
