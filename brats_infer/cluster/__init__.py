"""Many cases on a Ray cluster."""
