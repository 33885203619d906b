"""How each base-model family encodes, noises and predicts. Knows no method."""
