"""Chat templates, tokens, loss masks and truncation, with every loss of data counted.

Rows of any known layout become examples (`read_example`), examples become tokens and masks (`RowEncoder`).
"""

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
