"""Version of the package; models have versions of their own, stated on their cards."""

__version__ = "0.1.0"
