"""The mathematics of layers that keep a state of constant size: the gated delta rule, short convolutions."""
