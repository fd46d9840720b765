"""Where records of a run may go beside its own log: TensorBoard, Weights & Biases, trackio."""
