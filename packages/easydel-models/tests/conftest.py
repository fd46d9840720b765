"""Every test of this package runs with shapes checked and without silent promotion of dtypes or ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Checks the annotations of array functions at run time; has to come before the package is first imported.
install_import_hook("easydel_models", "beartype.beartype")


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True)
def true_bfloat16(monkeypatch):
    """bfloat16 is computed as such, whatever this CPU has instructions for."""
    monkeypatch.setenv("EASYDEL_CPU_BFLOAT16", "native")


@pytest.fixture(autouse=True)
def quick_compilation():
    # Tests compile hundreds of small programs and run each once; the golden tests run fully optimised ones.
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def random_model():
    """Builds a language model of random weights, drawn by NumPy: JAX would compile a program for every shape."""
    from easydel_models.heads import CausalLM
    from easydel_models.parameters import nested, parameter_specs

    def build(config, seed, dtype="float32"):
        rng, flat = np.random.default_rng(seed), {}
        for path, spec in parameter_specs(config).items():
            values = rng.normal(scale=0.3, size=spec.full_shape) + (spec.kind == "norm")
            flat[path] = jnp.asarray(values, jnp.float32)
        return CausalLM(config, nested(flat), dtype=dtype)

    return build
