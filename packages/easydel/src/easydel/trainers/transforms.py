"""The preprocessing that each trainer applies to its rows, usable on its own and without JAX."""

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
