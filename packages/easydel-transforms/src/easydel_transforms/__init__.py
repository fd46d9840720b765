"""The preprocessing of each trainer: rows of any known layout to tokens and masks, without JAX."""
