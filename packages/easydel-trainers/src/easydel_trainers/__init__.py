"""Post-training of language models in JAX: exact, resumable, observable."""
