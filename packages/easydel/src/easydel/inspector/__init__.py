"""What training would see of its rows: tokens, masks, cuts, lengths, packing, shares; for people to look at."""

from easydel.inspector.inspection import Inspection as Inspection
from easydel.inspector.inspection import inspect_rows as inspect_rows
from easydel.inspector.page import inspection_page as inspection_page
from easydel.inspector.terminal import print_inspection as print_inspection

__all__ = ["Inspection", "inspect_rows", "inspection_page", "print_inspection"]
