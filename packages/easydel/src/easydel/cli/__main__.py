"""`python -m easydel.cli` is the command `easydel`, for where scripts are not on the path."""

import sys

from easydel.cli.main import main

sys.exit(main())
