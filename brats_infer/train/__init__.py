"""Training; never imported by inference."""
