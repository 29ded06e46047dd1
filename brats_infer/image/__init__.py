"""A case before the network: crop, quality, intensities."""
