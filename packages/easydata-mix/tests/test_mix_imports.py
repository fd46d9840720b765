"""Importing the package loads nothing heavy."""

import subprocess
import sys

import easydata_mix


def test_importing_loads_no_array_or_model_library():
    heavy = ("numpy", "pyarrow", "datasets", "jax", "transformers")
    code = f"import sys; from easydata_mix import *; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_menu_names_what_exists():
    for name in easydata_mix.__all__:
        assert getattr(easydata_mix, name).__module__.startswith("easydata_mix.")
