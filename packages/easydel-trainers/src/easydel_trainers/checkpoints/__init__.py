"""Checkpoints of a run: writing them, knowing them again, going on from them."""
