"""Synthetic cases, made of formulas alone; never imported by inference."""
