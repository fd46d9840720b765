"""Transforms of rows, and those that come with the package."""
