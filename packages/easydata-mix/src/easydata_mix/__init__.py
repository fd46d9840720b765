"""Mix row sources by weights and schedules, exactly and resumably.

A mixture draws each row from one of several sources. After every block of rows each source has given within one row
of the running integral of its share, for fixed weights and any schedule; the order is a function of the seed and the
row's index, and a position is a small JSON-able dict.
"""

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
