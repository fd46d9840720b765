"""From a run's first step to its last."""
