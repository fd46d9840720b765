"""Rows: where they come from, how they are changed, mixed, tokenized and written. Needs no JAX."""

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
