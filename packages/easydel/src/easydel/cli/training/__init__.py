"""The training commands: what each is told, the trainer that makes, and the run from first to last."""
