"""The module's panel: what it does without a window, and its sections."""
