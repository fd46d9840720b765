"""Several rows in one: which go together, the transform, the source, and packers for loops of one's own."""
