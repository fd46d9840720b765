from easydata_mix.block_mixture import block_mixture_interleave as block_mixture_interleave
from easydata_mix.errors import MixtureError as MixtureError
from easydata_mix.mixed_source import MixedShardedSource as MixedShardedSource
from easydata_mix.plan.schedule import WeightSchedulePoint as WeightSchedulePoint
from easydata_mix.plan.schedule import WeightScheduler as WeightScheduler
from easydata_mix.plan.simulation import Simulation as Simulation
from easydata_mix.plan.weight_edits import WeightEdit as WeightEdit
