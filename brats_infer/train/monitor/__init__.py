"""Monitoring of a run: validation, curves, pictures, messages."""
