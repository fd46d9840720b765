"""EasyData and the EasyDeL trainers in one install: the table of contents of the packages below.

`import easydel as ed` is cheap: models and trainers, and JAX with them, are loaded when one of their names is
first used. Reading and preparing data is in `easydel.data`, the trainers' preprocessing in
`easydel.trainers.transforms`; neither loads JAX.
"""

from importlib.metadata import version as _version

from easydata_sources.lazy_menu import lazy_menu as _lazy_menu
from easydata_sources.storage.schemes import OPENERS as _OPENERS

__version__ = _version("easydel")

#: `demo://…` names rows wherever a data set is named, once this package is imported
_OPENERS["demo"] = "easydel.demo.named:demo_rows"

__getattr__, __dir__, __all__ = _lazy_menu(__name__, __file__)
