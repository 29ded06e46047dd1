"""The kinds of tumors, and of heads, in which the challenges differ."""
