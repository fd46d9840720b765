"""The parts of a decoder layer, as pure functions and frozen configurations."""
