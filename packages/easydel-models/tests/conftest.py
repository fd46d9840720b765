"""Every test of this package runs with shapes checked and without silent promotion of dtypes or ranks."""

import jax
import pytest
from jaxtyping import install_import_hook

# Checks the annotations of array functions at run time; has to come before the package is first imported.
install_import_hook("easydel_models", "beartype.beartype")


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def quick_compilation():
    # Tests compile hundreds of small programs and run each once; the golden tests run fully optimised ones.
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
