"""From a scan in memory to labels on its grid: locate the heart, resample, tile through the network, map back.

The public name is :class:`~heartseg.inference.engine.Engine`. Importing this package does not import torch.
"""
