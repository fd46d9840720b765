"""Hugging Face data sets: in memory, on disk, streaming."""
