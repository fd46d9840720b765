"""The modules beside the other integration tests are importable here, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
