"""Attention: one entry, one definition of who sees whom, and several implementations of the same numbers."""

from easydel_models.attention.entry import SHORT as SHORT
from easydel_models.attention.entry import Implementation as Implementation
from easydel_models.attention.entry import attention as attention
from easydel_models.attention.entry import honours_prefixes as honours_prefixes
from easydel_models.attention.entry import why_unavailable as why_unavailable
