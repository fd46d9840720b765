"""Readers of one file format each, and what they share: lines, JSON text, columns that somebody else wrote."""
