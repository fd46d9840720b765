"""Importing the package loads nothing heavy."""

import subprocess
import sys

import easydata_mix


def test_importing_loads_no_array_or_model_library():
    heavy = ("numpy", "pyarrow", "datasets", "jax", "transformers")
    code = f"import sys, easydata_mix; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_menu_names_what_exists():
    assert all(name in vars(easydata_mix) for name in easydata_mix.__all__)
