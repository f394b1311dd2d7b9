"""Synthetic chest images with known heart labels: hearts of a shape model in a drawn thorax or a mapped trunk.

Data flows through ``hearts`` (label map, deformed and remodelled) → ``vessels`` (vessels that the model lacks) →
``thorax`` or ``trunk`` (surroundings) → ``scenes`` (stored on disk) → ``views`` (field of view and crop) →
``appearance`` (grey values). Only :mod:`heartseg.training` imports this package; inference never does.
"""
