"""Another order of a source's rows, without a buffer that would be lost on a restart."""
