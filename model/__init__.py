"""The network and its files on disk; knows nothing of brats_infer."""
