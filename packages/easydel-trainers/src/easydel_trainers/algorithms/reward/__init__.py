"""Reward modelling: `RewardConfig`, `RewardTrainer`, `reward_losses`."""
