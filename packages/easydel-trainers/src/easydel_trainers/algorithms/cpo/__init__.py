"""Contrastive preference optimisation, SimPO and AlphaPO: `CPOConfig`, `CPOTrainer`, `cpo_losses`."""
