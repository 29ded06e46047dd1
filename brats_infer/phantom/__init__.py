"""Phantoms: synthetic cases, grown in label maps of heads or in a brain of ellipsoids. Inference never imports them."""
