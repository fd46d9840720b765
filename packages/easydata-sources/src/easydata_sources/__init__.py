"""Read rows from files, buckets and Hugging Face data sets, by position; transform, filter and shuffle them."""

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
