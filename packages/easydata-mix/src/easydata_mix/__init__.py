"""Mix row sources by weights and schedules, exactly and resumably.

A mixture draws each row from one of several sources. After every block of rows each source has given within one row
of the running integral of its share, for fixed weights and any schedule; the order is a function of the seed and the
row's index, and a position is a small JSON-able dict.
"""

from easydata_mix.block_mixture import block_mixture_interleave as block_mixture_interleave
from easydata_mix.errors import MixtureError as MixtureError
from easydata_mix.journal import WeightEdit as WeightEdit
from easydata_mix.mixed_source import MixedShardedSource as MixedShardedSource
from easydata_mix.schedule import WeightSchedulePoint as WeightSchedulePoint
from easydata_mix.schedule import WeightScheduler as WeightScheduler
from easydata_mix.simulation import Simulation as Simulation

__all__ = [
    "MixedShardedSource",
    "MixtureError",
    "Simulation",
    "WeightEdit",
    "WeightSchedulePoint",
    "WeightScheduler",
    "block_mixture_interleave",
]
