"""Binary classifier optimisation: `BCOConfig`, `BCOTrainer`, `bco_losses`."""
