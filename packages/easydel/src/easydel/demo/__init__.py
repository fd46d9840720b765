"""Rows and a model that a machine can make by itself, for demos and tests that need them without a network."""

from easydel.demo.python_docs import python_docs_preferences as python_docs_preferences
from easydel.demo.python_docs import python_docs_rows as python_docs_rows
from easydel.demo.python_docs import python_docs_unfinished as python_docs_unfinished
from easydel.demo.tiny_model import tiny_model as tiny_model

__all__ = ["python_docs_preferences", "python_docs_rows", "python_docs_unfinished", "tiny_model"]
