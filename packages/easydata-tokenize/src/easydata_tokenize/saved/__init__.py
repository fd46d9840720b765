"""A set on disk: its folder and lock, which files are its own, its manifest, and opening it."""
