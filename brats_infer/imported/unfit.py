"""The error of a model that cannot become a member."""


class UnfitError(ValueError):
    """A model that cannot become a member. The message says why, without the file; its caller names that."""
