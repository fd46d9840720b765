"""Rows that cannot be read or transformed: marked, counted, set aside."""
