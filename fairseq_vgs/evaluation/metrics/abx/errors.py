"""The error of this package."""


class AbxError(ValueError):
    """Features and items do not fit each other, or nothing can be compared."""
