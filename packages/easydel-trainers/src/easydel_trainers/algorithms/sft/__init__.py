"""Supervised fine-tuning: `SFTConfig`, `SFTTrainer`, `sft_loss`."""
