"""One config-driven decoder in Flax NNX: loads and saves Hugging Face folders and GGUF files, generates, scores."""
