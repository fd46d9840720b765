"""Files: Hugging Face folders, GGUF, safetensors, and the way from named tensors to stacked parameters."""
