"""Weights of other programs become members of a weights folder."""
