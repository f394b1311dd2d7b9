"""Training of the default model: network settings, sample stream, training loop, evaluation, export.

Inference never imports this package.
"""
