"""Model families, one file each: how one reads its config.json and what it calls its tensors."""

from easydel_models.families.family import Family as Family
from easydel_models.families.table import FAMILIES as FAMILIES
from easydel_models.families.table import family_of as family_of
