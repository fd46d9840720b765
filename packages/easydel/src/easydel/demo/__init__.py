"""Data sets that a machine can make by itself, for demos and tests that need real rows without a network."""

from easydel.demo.python_docs import python_docs_rows as python_docs_rows

__all__ = ["python_docs_rows"]
