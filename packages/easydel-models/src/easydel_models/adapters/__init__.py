"""Low-rank adapters: what they are, which layers they adapt, and their files."""
