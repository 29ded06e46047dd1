"""The network and its files on disk; imports nothing from brats_infer."""
