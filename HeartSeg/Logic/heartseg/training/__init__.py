"""What makes the default model: networks' settings, sample stream, training loop, evaluation, export.

Nothing on the inference path imports this package.
"""
