"""The brain's mask of a scan."""
