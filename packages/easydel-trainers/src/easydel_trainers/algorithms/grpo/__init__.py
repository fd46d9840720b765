"""Group-relative policy optimisation: answers are sampled, rewarded, and compared within the group of their prompt."""
