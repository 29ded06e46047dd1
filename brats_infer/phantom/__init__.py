"""Synthetic cases, grown in label maps of heads or in a simple brain of ellipsoids; never imported by inference."""
